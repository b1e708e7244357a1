"""The simple methods every learner has to beat, behind the same contract."""
