"""Logs to tasks: interactions, readers, named data sets, splits, the sampler."""
