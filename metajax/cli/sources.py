"""Settings from environment variables, a TOML file and the method's own defaults."""

import dataclasses
import importlib
import itertools
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter

from metajax import registry
from metajax.baselines import Baseline
from metajax.cross_domain.domains import domain_fields
from metajax.data.reading import Reading
from metajax.engine.fit import DEFAULT
from metajax.engine.model import method_in
from metajax.fields import check_keys, check_numbers, check_whole, names_of, with_tuples
from metajax.files import read_toml
from metajax.methods import Method, Settings
from metajax.methods.settings import Options, reading_fields
from metajax.search import study

__all__ = [
    "ACROSS",
    "LISTED_ACROSS",
    "OF_SOURCE",
    "OF_TARGET",
    "TRAINED",
    "UPDATED",
    "given",
    "of_comparison",
    "of_domain",
    "of_reading",
    "of_training",
    "plain",
    "settings_of",
    "without_config",
]

TRAINED = "hybrid"
"""The method of `metajax train`, where none is named."""

UPDATED = "maml"
"""The same where a setting of training by updates is given, or an option of this method."""

ACROSS = "informed_ridge"
"""The method of a transfer, where none is named."""

LISTED_ACROSS = "ease"
"""The same where the logs have no ratings, up to its largest catalogue."""


def _reading_of(side: str) -> type:
    """Makes a dataclass of the options of reading one domain, all of them optional.

    Help does not list them: they are those of both.
    """
    kinds: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(Reading)}
    made = dataclasses.make_dataclass(
        f"{side.title()}Reading",
        [
            (
                name,
                Annotated[
                    kinds[name] | None,
                    Parameter(name=f"--{side}.{name.replace('_', '-')}", show=False),
                ],
                None,
            )
            for name in domain_fields
        ],
        frozen=True,
        kw_only=True,
    )
    # Cyclopts knows no fields of a class of the module `types`.
    made.__module__ = __name__
    return made


OF_SOURCE: Any = _reading_of("source")
"""Options of reading the source of a transfer alone."""

OF_TARGET: Any = _reading_of("target")
"""Options of reading the target of a transfer alone."""

_PREFIX = "METAJAX_"
_DOMAINS = ("source", "target")
_SPREAD = {"ray", "workers"}  # What is trained by updates alone can be spread.
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
        Sources of options besides the command line, here none, and the command line.

    Raises:
        ValueError: If there is a file, or an option is of another type than its field.
    """
    if config is not None:
        raise ValueError(f"metajax {tokens[0]} takes no --config, got {config}.")
    _check(tokens, kind)
    return [], tokens


def of_training(config: Path | None, tokens: tuple[str, ...]) -> tuple[list[Any], tuple[str, ...]]:
    """Prepares a command that trains: its options become those of the chosen method.

    Args:
        config: A TOML file of settings, or None.
        tokens: The command line, of `train`, `transfer`, `fit` or `tune`.

    Returns:
        Sources of options besides the command line, the strongest first: environment, file; and
        the command line.

    Raises:
        ValueError: If there is no such setting, or its value is of another type.
        OSError: If the file cannot be read.
    """
    typed, environment = given(tokens), _environment()
    domains = _DOMAINS if tokens[0] == "transfer" else ()
    file = {} if config is None else _read(config, tables=domains)
    plain = {"transfer": ACROSS, "fit": DEFAULT, "tune": UPDATED}.get(tokens[0], TRAINED)
    # A run that is resumed has its method.
    spread = "resume" not in typed and not _SPREAD.isdisjoint(typed)
    if tokens[0] == "train" and (spread or _of_updates({**file, **environment, **typed})):
        plain = UPDATED
    if tokens[0] == "fit" and "from" in typed:
        # Options are of the method that the model has; what is no model is refused by the command.
        plain = method_in(Path(str(typed["from"]))) or plain
    layered = {**file, **environment, **typed}
    if tokens[0] in ("train", "fit") and "from_study" in typed:
        # The method and its settings are those of the study.
        plain = study.settings_of(study.read(Path(typed["from_study"]))).method
    chosen = {"method": plain, **layered}["method"]
    method = registry.method_of(chosen)
    trained = isinstance(method, Method)
    _check_options(tokens, method)
    _check(tokens)
    prefix = f"{method.name}."
    own = {n.removeprefix(prefix): value for n, value in typed.items() if n.startswith(prefix)}
    check_numbers(own, "command line", method.options if trained else Options)
    # Cyclopts reads a command's options off its annotations.
    command = importlib.import_module(f"metajax.cli.{tokens[0]}")
    function = getattr(command, tokens[0])
    options: Any = settings_of(method)
    # Read by the command: where no method is named, the data may choose another.
    options.named = "method" in layered or method.name in layered or bool(own)
    options.typed = frozenset(typed)
    tables = layered.get(method.name, {})
    options.given = frozenset([*layered, *own, *(tables if isinstance(tables, Mapping) else ())])
    function.__annotations__["settings"] = Annotated[options, Parameter(name="*")]
    others = {found.name for found in registry.all_methods()} - {method.name}
    if not trained:
        # Those of training in a file or the environment are for the methods that are trained.
        others |= _trained_alone()
    # The last, so that settings are always given.
    layers = [
        ("environment", environment),
        (str(config), file),
        (method.name, {"method": method.name}),
    ]
    return [
        cyclopts.config.Dict(
            {name: value for name, value in values.items() if name not in others},
            source=source,
            use_commands_as_keys=False,
        )
        for source, values in layers
    ], tokens


def settings_of(method: Method | Baseline) -> type:
    """Returns the dataclass of settings with the method's own defaults, for Cyclopts to show.

    Its options are shown under the method's name; of a closed form the settings it has.
    """
    if isinstance(method, Baseline):
        hidden = [
            (field.name, field.type, dataclasses.field(default=field.default, init=False))
            for field in dataclasses.fields(Settings)
            if field.name in _trained_alone() or field.name == "options"
        ]
        return _with_defaults(Settings, {"method": method.name}, *hidden)
    own = names_of(method.options)
    options = {name: value for name, value in method.settings.items() if name in own}
    shared = {name: value for name, value in method.settings.items() if name not in own}
    kind = _with_defaults(method.options, options)
    shown = ("options", Annotated[kind, Parameter(name=method.name)], kind())
    return _with_defaults(Settings, {**shared, "method": method.name}, shown)


def _of_updates(values: Mapping[str, Any]) -> bool:
    """True where a value is of training by updates, or of `UPDATED` alone."""
    options = names_of(registry.trained_method_of(UPDATED).options)
    own = {UPDATED, *options, *_trained_alone()}
    return any(name.partition(".")[0] in own for name in values)


def _trained_alone() -> set[str]:
    """Names the settings that closed forms do not have."""
    return set(names_of(Settings)) - {"method", "options", *registry.closed_form_settings}


def _with_defaults(kind: Any, defaults: Mapping[str, Any], *more: Any) -> Any:
    """Returns a dataclass with other defaults, and fields in the place of some."""
    known = {field.name: field for field in dataclasses.fields(kind)}
    changed = [
        (name, known[name].type, dataclasses.field(default=value, metadata=known[name].metadata))
        for name, value in defaults.items()
    ]
    made = dataclasses.make_dataclass(
        kind.__name__, [*changed, *more], bases=(kind,), frozen=True, kw_only=True
    )
    # Cyclopts shows no fields of a class of the module `types`.
    made.__module__ = __name__
    return made


def plain(settings: Settings | None) -> Settings:
    """Converts an instance of the dataclass of `settings_of`, made by Cyclopts, to `Settings`."""
    assert settings is not None  # The method is always given.
    values = {name: getattr(settings, name) for name in names_of(Settings)}
    method = registry.method_of(settings.method)
    kind = method.options if isinstance(method, Method) else Options
    values["options"] = kind(**{name: getattr(values["options"], name) for name in names_of(kind)})
    return Settings(**values)


def of_domain(own: Any) -> dict[str, Any]:
    """Returns the options of reading one domain that were given, by name."""
    values = {} if own is None else dataclasses.asdict(own)
    return {name: value for name, value in values.items() if value is not None}


def _environment() -> dict[str, Any]:
    """Reads METAJAX_RATE, and METAJAX_MAML_INNER_RATE into the table of maml."""
    source = "environment, METAJAX_*"
    shared = names_of(Settings)
    found: dict[str, Any] = {}
    for variable in os.environ:
        if not variable.startswith(_PREFIX) or variable in _NOT_SETTINGS:
            continue
        name, value = variable.removeprefix(_PREFIX).lower(), os.environ[variable]
        tables = [m for m in registry.all_methods() if name.startswith(f"{m.name}_")]
        fitting = [m for m in tables if name.removeprefix(f"{m.name}_") in names_of(m.options)]
        if name not in shared and fitting:
            table = found.setdefault(fitting[0].name, {})
            table[name.removeprefix(f"{fitting[0].name}_")] = value
        else:
            found[name] = value
    _check_values(found, source)
    return found


def _check_values(values: Mapping[str, Any], source: str, *, options: bool = False) -> None:
    registry.check_values(values, source, options=options)
    check_numbers(values, source, Settings)
    for method in registry.all_methods():
        check_numbers(values.get(method.name, {}), f"{source}, {method.name}", method.options)
        if options:
            check_numbers(values, source, method.options)


def _check_options(tokens: tuple[str, ...], method: Method | Baseline) -> None:
    """Refuses options of another method, and the method's own ones without its name."""
    trained = isinstance(method, Method)
    options = names_of(method.options) if trained else ()
    own = {f"--{name.replace('_', '-')}": name for name in options}
    for token in tokens:
        name = token.partition("=")[0].removeprefix("--").replace("-", "_")
        if not trained and token.startswith("--") and name in _trained_alone():
            raise ValueError(
                f"{token.partition('=')[0]} is a setting of training by updates; {method.name} is "
                "a closed form."
            )
        if token.partition("=")[0] in own:
            option = token.partition("=")[0]
            raise ValueError(
                f"{option} is an option of {method.name}: --{method.name}.{option[2:]}."
            )
        table, dot, _ = token.removeprefix("--").partition(".")
        if token.startswith("--") and dot and table != method.name and table in registry.names():
            raise ValueError(
                f"{token.partition('=')[0]} is an option of {table}, the method is {method.name}."
            )


def _check(tokens: tuple[str, ...], kind: Any = Settings) -> None:
    # Cyclopts silently rounds 2.5 to a whole number.
    typed = given(tokens)
    check_numbers(typed, "command line", kind)
    check_whole(typed.get("top"), "top", "command line")


def _read(config: Path, *, options: bool = False, tables: Collection[str] = ()) -> dict[str, Any]:
    """Reads a file of settings; keys of the tables of domains become such as source.separator."""
    values = read_toml(config)
    found = {}
    for table in tables:
        options_of_one = values.pop(table, {})
        if not isinstance(options_of_one, Mapping):
            raise ValueError(f"{config}: {table} must be a table of options of reading.")
        check_keys(options_of_one, domain_fields, f"{config}, {table}")
        found |= {f"{table}.{name}": value for name, value in options_of_one.items()}
    _check_values(values, str(config), options=options)
    return {**values, **found}


def given(tokens: tuple[str, ...]) -> dict[str, str]:
    """Reads `--name=value` and `--name value` off a command line, names as settings have them."""
    pairs = [token.partition("=")[::2] for token in tokens if "=" in token]
    pairs += list(itertools.pairwise(tokens))
    return {
        name.removeprefix("--").replace("-", "_"): value
        for name, value in pairs
        if name.startswith("--")
    }


def of_reading(config: Path | None, tokens: tuple[str, ...]) -> tuple[list[Any], tuple[str, ...]]:
    """Prepares a command that reads data and trains nothing: the file gives options of reading.

    Args:
        config: A TOML file of settings, or None.
        tokens: The command line.

    Returns:
        Sources of options besides the command line, and the command line.

    Raises:
        ValueError: If there is no such setting, or its value is of another type.
        OSError: If the file cannot be read.
    """
    _check(tokens, Reading)
    if config is None:
        return [], tokens
    values = _read(config, options=True)
    options = {name: value for name, value in values.items() if name in reading_fields}
    layer = cyclopts.config.Dict(options, source=str(config), use_commands_as_keys=False)
    return [layer], tokens


def of_comparison(config: Path) -> dict[str, Any]:
    """Reads the settings of trained methods for a comparison.

    Args:
        config: A TOML file.

    Returns:
        The settings, without those of reading the data.

    Raises:
        ValueError: If there is no such setting, or the comparison itself chooses it.
        OSError: If the file cannot be read.
    """
    values = _read(config, options=True)
    for name in ("data", "fold", "seed", "method"):
        if name in values:
            raise ValueError(f"{config}: {name} is chosen by the comparison, got {values[name]!r}.")
    return {n: value for n, value in with_tuples(values).items() if n not in reading_fields}
