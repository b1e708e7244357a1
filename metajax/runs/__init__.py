"""Training runs: create, train, resume, load, and recommend from them."""

from metajax.runs.run import Run, create, load, open_run, resumed, settings_of, train_run

__all__ = ["Run", "create", "load", "open_run", "resumed", "settings_of", "train_run"]
