import pytest

from metajax.baselines import item_mean, tune

SHRINKAGES = (1.0, 4.0, 2.0, 4.0)
TRIED = item_mean._replace(grid=tuple({"item_shrinkage": value} for value in SHRINKAGES))


def _spread(baseline, params):
    assert baseline is TRIED
    return float(params["item_mean"].max() - params["item_mean"].min())


def test_the_setting_with_the_lowest_score_wins_the_earliest_of_equals(training):
    settings, params = tune(TRIED, training, _spread)
    # The more shrinkage, the less the item means differ.
    assert settings is TRIED.grid[1]
    assert _spread(TRIED, params) == _spread(TRIED, item_mean.fit(training, item_shrinkage=4.0))


def test_a_score_that_is_not_a_number_is_refused(training):
    with pytest.raises(ValueError, match="score must be a number, got nan"):
        tune(TRIED, training, lambda baseline, params: float("nan"))


def test_an_empty_grid_is_refused(training):
    with pytest.raises(ValueError, match="grid must hold at least one setting"):
        tune(TRIED._replace(grid=()), training, _spread)
