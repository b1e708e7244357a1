"""Defects of a service in its log: kind and places, and nothing of what clients sent."""

import json
import logging
import os
import traceback

__all__ = ["log_defect"]

_LOG = logging.getLogger(__name__)


def log_defect(problem: BaseException) -> None:
    """Logs an error that nobody foresaw, in one line of JSON.

    Args:
        problem: The error; of its message, which may hold an id, nothing is logged.
    """
    frames = traceback.extract_tb(problem.__traceback__)[-8:]
    places = [f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in frames]
    told = {"event": "unforeseen error", "kind": type(problem).__name__, "at": places}
    _LOG.error(json.dumps(told))
