"""Entry point of the command line: discovery of commands, and errors as one line.

A command is a file of this folder, `metajax/cli/NAME.py`, and nothing else needs to change for a
new one. It has a function `NAME`, or for a command with subcommands a Cyclopts app `command`, and
may have a function `prepare`, with arguments and results as `sources.without_config`, which stands
in for it. A command is imported when it runs: `metajax --help` only reads docstrings.
"""

import ast
import importlib
import pkgutil
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import App, Parameter

from metajax.cli import console

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Runs one command.

    Args:
        arguments: The arguments after the program's name.

    Returns:
        The exit status: 0 done (or saved after SIGTERM), 2 a mistake that one line on standard
        error explains, 130 stopped by Ctrl-C.
    """
    try:
        return _app.meta(arguments, exit_on_error=False, print_error=False) or 0
    except cyclopts.CycloptsError as problem:
        console.error(str(problem))
    except KeyError as problem:
        console.error(str(problem.args[0]))
    except MemoryError as problem:
        console.error(f"out of memory: {problem}")
    except OSError as problem:
        console.error(f"{problem.filename or 'input/output'}: {problem.strerror or problem}")
    except console.Stopped as stopped:
        console.error(str(stopped))
        return stopped.status
    except KeyboardInterrupt:
        console.error("stopped before there was anything to save.")
        return 130
    except _mistakes() as problem:
        console.error(str(problem))
    return 2


def _mistakes() -> tuple[type[Exception], ...]:
    # Evaluated once there is an exception to compare with, so that --help need not import JAX.
    from metajax.checkpoint import CheckpointError
    from metajax.data.fetch import DataUnavailable
    from metajax.training import DivergedError

    return CheckpointError, DataUnavailable, DivergedError, ImportError, ValueError


def _commands() -> dict[str, tuple[str, str]]:
    """Returns the attribute and the summary of each command by name; imports none of them."""
    found = {}
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        tree = ast.parse((Path(__file__).parent / f"{info.name}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == info.name:
                found[info.name] = node.name, _summary(node)
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "command":
                found[info.name] = "command", _summary(tree)
    return found


def _summary(node: ast.FunctionDef | ast.Module) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


_COMMANDS, _HELP = _commands(), ("--help", "-h")
_app = App(
    name="metajax",
    help="Meta-learning for cold-start recommendation.",
    help_format="plaintext",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for _name, (_attribute, _help) in _COMMANDS.items():
    _path = f"metajax.cli.{_name}:{_attribute}"
    # An app of its own has help flags of its own.
    _flags = {} if _attribute == "command" else {"help_flags": _HELP}
    _app.command(_path, name=_name, help=_help, **_flags)


# The help of a command that trains shows the options of the chosen method, so that it is printed
# after the method is known.
_app.meta.help_flags = ()


@_app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[
        Path | None,
        Parameter(help="TOML file of settings; overridden by METAJAX_* and the command line."),
    ] = None,
) -> int | None:
    _app.config = []
    name = tokens[0] if tokens else ""
    if name in _COMMANDS:
        with console.starting():
            module = importlib.import_module(f"metajax.cli.{name}")
            from metajax.cli import sources
        prepare = getattr(module, "prepare", sources.without_config)
        _app.config, tokens = prepare(config, tokens)
    return _app(tokens, exit_on_error=False, print_error=False)
