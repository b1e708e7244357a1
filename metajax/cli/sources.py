"""Settings from environment variables, a TOML file and the method's own defaults."""

import itertools
import os
import tomllib
from pathlib import Path
from typing import Any

import cyclopts

from metajax import methods
from metajax.methods.settings import READING, Settings, check_keys, check_numbers, check_whole

__all__ = ["ACROSS", "of_comparison", "of_training", "without_config"]

ACROSS = "informed_ridge"
"""The learner of a transfer, where none is named."""

_PREFIX = "METAJAX_"
_NOT_SETTINGS = ("METAJAX_CACHE", "METAJAX_CONFIG")


def without_config(
    config: Path | None, tokens: tuple[str, ...], kind: Any = Settings
) -> tuple[list[Any], tuple[str, ...]]:
    """Prepares a command whose options come from the command line alone.

    Args:
        config: The file given with `--config`.
        tokens: The command line.
        kind: The dataclass of which some options are fields.

    Returns:
        What Cyclopts asks besides the command line, here nothing, and the command line.

    Raises:
        ValueError: If there is a file, or an option is of another type than its field.
    """
    if config is not None:
        raise ValueError(f"metajax {tokens[0]} takes no --config, got {config}.")
    _check(tokens, kind)
    return [], tokens


def of_training(config: Path | None, tokens: tuple[str, ...]) -> tuple[list[Any], tuple[str, ...]]:
    """Prepares a command that trains.

    Args:
        config: A TOML file of settings, or None.
        tokens: The command line, of `train` or `transfer`.

    Returns:
        What Cyclopts asks besides the command line, the strongest first: environment, file, what
        the learner prefers; and the command line.

    Raises:
        ValueError: If there is no such setting, or its value is of another type.
        OSError: If the file cannot be read.
    """
    _check(tokens)
    source = "environment, METAJAX_*"
    names = [name for name in os.environ if name.startswith(_PREFIX) and name not in _NOT_SETTINGS]
    environment = {name.removeprefix(_PREFIX).lower(): os.environ[name] for name in names}
    check_keys(environment, source)
    check_numbers(environment, source)
    found: list[Any] = [cyclopts.config.Env(_PREFIX, command=False)]
    values: dict[str, Any] = {}
    if config is not None:
        values = _read(config)
        found.append(cyclopts.config.Toml(config, use_commands_as_keys=False))
    # Last of all what the recipe prefers.
    plain = ACROSS if tokens[0] == "transfer" else Settings.learner
    learner = {"learner": plain, **values, **environment, **_given(tokens)}["learner"]
    preferred = {**methods.recipe_of(learner).settings, "learner": learner}
    found.append(cyclopts.config.Dict(preferred, source=learner, use_commands_as_keys=False))
    return found, tokens


def _check(tokens: tuple[str, ...], kind: Any = Settings) -> None:
    # Cyclopts rounds 2.5 to a whole number and says nothing.
    given = _given(tokens)
    check_numbers(given, "command line", kind)
    check_whole(given.get("top"), "top", "command line")


def _read(config: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(config.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise ValueError(f"{config}: {problem}") from None
    check_keys(values, str(config))
    check_numbers(values, str(config))
    return values


def _given(tokens: tuple[str, ...]) -> dict[str, str]:
    """Reads `--name=value` and `--name value` off a command line, names as settings have them."""
    pairs = [token.partition("=")[::2] for token in tokens if "=" in token]
    pairs += list(itertools.pairwise(tokens))
    return {
        name.removeprefix("--").replace("-", "_"): value
        for name, value in pairs
        if name.startswith("--")
    }


def of_comparison(config: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a file of settings for a comparison.

    Args:
        config: A TOML file.

    Returns:
        Those of the learners and, apart from them, the options of reading the data.

    Raises:
        ValueError: If there is no such setting, or the comparison itself chooses it.
        OSError: If the file cannot be read.
    """
    values = _read(config)
    for name in ("data", "fold", "seed", "learner"):
        if name in values:
            raise ValueError(f"{config}: {name} is chosen by the comparison, got {values[name]!r}.")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    reading: dict[str, Any] = {name: values.pop(name) for name in READING if name in values}
    return values, Settings(**reading).reading()
