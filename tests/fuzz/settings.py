"""Cases of settings: TOML files, environment variables and the command line, in their order."""

import contextlib
import functools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cyclopts

from metajax.cli import app, train
from metajax.methods import Settings
from tests.fuzz.case import Case
from tests.fuzz.mutations import damaged, strange_text
from tests.fuzz.reference import Refused, Unsure

__all__ = ["settings_case"]

# Of each kind a few, as a person writes them; of a method too.
_WHOLE = ("updates", "tasks", "seed", "patience", "maml.steps", "maml.width")
_REAL = ("rate", "clip", "maml.inner_rate")
_WHOLE_TEXTS = ("1", "2", "7", "+3", "007", "0", "-1", "2.5", "1e3", "1_0", "", " 4", "x", "nan",
                "9" * 25, "9" * 5000, "0x10", "٣", "true", "1 2")  # fmt: skip
_REAL_TEXTS = ("0.1", "1", "1e-3", ".5", "5.", "0", "-1", "nan", "inf", "1e999", "", "x", "1_0",
               "0,5", " .1", "٣", "9" * 400)  # fmt: skip


class _Chosen(Exception):  # noqa: N818
    """The settings that `train` was given."""

    def __init__(self, settings: Settings):
        super().__init__()
        self.settings = settings


def settings_case(rng: random.Random) -> Case:
    """Draws settings in up to three places, perhaps a damaged file."""
    if rng.random() < 0.3:
        return _damaged_file(rng)
    given: dict[str, dict[str, str]] = {"file": {}, "environment": {}, "line": {}}
    for _ in range(rng.randint(1, 4)):
        name = rng.choice(_WHOLE + _REAL)
        text = rng.choice(_WHOLE_TEXTS if name in _WHOLE else _REAL_TEXTS)
        if rng.random() < 0.6:
            text = "3" if name in _WHOLE else "0.25"
        given[rng.choice(list(given))][name] = text
    environment = {
        f"METAJAX_{name.replace('.', '_').upper()}": text
        for name, text in given["environment"].items()
    }
    line = [f"--{name.replace('_', '-')}={text}" for name, text in given["line"].items()]
    content = "".join(f"{name} = {_toml(text)}\n" for name, text in given["file"].items()).encode()

    def named(folder: Path, message: str) -> bool:
        names = [n for place in given.values() for n in place]
        spelled = [n.replace("_", "-") for n in names] + [n.rpartition(".")[2] for n in names]
        upper = [n.replace(".", "_").upper() for n in names]
        return any(name in message for name in (str(folder), *names, *spelled, *upper))

    return Case(
        "settings",
        {"a.toml": content},
        functools.partial(_settings, environment=environment, line=line, names=_names(given)),
        functools.partial(_expected, given),
        named,
    )


def _names(given: dict[str, dict[str, str]]) -> list[str]:
    return sorted({name for place in given.values() for name in place})


def _toml(text: str) -> str:
    """A number where TOML has it, else a string."""
    import tomllib

    try:
        tomllib.loads(f"a = {text}")
    except ValueError:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def _settings(
    folder: Path, *, environment: dict[str, str], line: list[str], names: list[str]
) -> list[Any]:
    """Returns the values of some settings, as `metajax train` reads them."""

    def stop(settings: Settings | None) -> Settings:
        assert settings is not None
        raise _Chosen(train.sources.Settings(**{
            name: getattr(settings, name) for name in train.sources.names_of(Settings)
        }))  # fmt: skip

    words = ["train", *line, f"--config={folder / 'a.toml'}"]
    with _changed(train.sources, "plain", stop), _variables(environment):
        try:
            app._app.meta(words, exit_on_error=False, print_error=False)
        except _Chosen as chosen:
            return [_value(chosen.settings, name) for name in names]
        except cyclopts.CycloptsError as error:
            raise _Named(str(error)) from None
    raise AssertionError("train did not begin")


class _Named(OSError):  # noqa: N818
    """An error of Cyclopts, which the command line prints in one line."""

    def __init__(self, message: str):
        super().__init__(2, message, message)


def _value(settings: Settings, name: str) -> Any:
    table, _, option = name.rpartition(".")
    return getattr(settings.options if table else settings, option)


def _expected(given: dict[str, dict[str, str]]) -> list[Any]:
    texts = {**given["file"], **given["environment"], **given["line"]}
    return [(_whole if name in _WHOLE else _real)(texts[name]) for name in sorted(texts)]


def _whole(text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        raise (Unsure if text.startswith("0x") else Refused)(text) from None
    if not number.is_integer() if abs(number) < 1e300 else True:
        raise Refused(text)
    if "_" in text or abs(number) > 2**53 or not text.isascii():
        raise Unsure(text)
    return int(number)


def _real(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise Refused(text) from None
    if not abs(number) < 1e300:
        raise Refused(text)
    return number


def _damaged_file(rng: random.Random) -> Case:
    """A file of settings with damage; the result is unknown."""
    lines = ["updates = 10", 'method = "maml"', "rate = 0.1", "scale = [1, 5]", "[maml]",
             "steps = 3", "width = 8", 'candidates = "mixed"']  # fmt: skip
    if rng.random() < 0.3:
        name, text = rng.choice(("a", "maml", "updates", "maml.steps")), strange_text(rng)
        lines.insert(rng.randrange(4), f"{name} = '''{text}'''")
    content = damaged(rng, "\n".join(lines).encode(errors="surrogatepass"))
    if rng.random() < 0.1:
        content = rng.choice((
            b"a=" + b"[" * 5000, b"a=" + b"{a=" * 1000, ".".join("a" * 100_000).encode() + b"=1",
            b"[" + b"a." * 30_000 + b"a]", b"a" * 10**6, b'a="' + b"x" * 10**6 + b'"',
            b"\n".join(b"a%d=1" % n for n in range(20_000)),
        ))  # fmt: skip
    call = functools.partial(_settings, environment={}, line=[], names=["updates"])
    words = ("updates", "method", "rate", "scale", "steps", "width", "candidates")
    return Case(
        "toml",
        {"a.toml": content if rng.random() < 0.98 else None},
        call,
        None,
        lambda folder, text: any(word in text.lower() for word in (str(folder).lower(), *words)),
    )


@contextlib.contextmanager
def _changed(module: Any, name: str, value: Callable[..., Any]) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    """Has no variable of METAJAX_ but these."""
    before = {n: v for n, v in os.environ.items() if n.startswith("METAJAX_")}
    for name in before:
        del os.environ[name]
    try:
        os.environ.update(values)
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ.update(before)
