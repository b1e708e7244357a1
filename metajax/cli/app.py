"""Entry point of the command line: discovery of commands, and errors as one line.

A command is a file of this folder, `metajax/cli/NAME.py`, and nothing else needs to change for a
new one. It has a function `NAME`, or for a command with subcommands a Cyclopts app `command`, and
may have a function `prepare`, with arguments and results as `sources.without_config`, which stands
in for it. A command is imported when it runs: `metajax --help` only reads docstrings.
"""

import ast
import dis
import errno
import importlib
import os
import pkgutil
import sys
import tempfile
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Annotated

import cyclopts
from cyclopts import App, Parameter

from metajax.cli import console, signals

__all__ = ["command_line", "main"]


_PACKAGE = str(Path(__file__).parents[1]) + os.sep

# JAX and polars end the process where they cannot start their threads.
_ADDRESS_SPACE = 2 * 2**30


def main(arguments: list[str]) -> int:
    """Runs one command.

    Every error ends in one line on standard error. An error that no rule of this package foresaw
    leaves its traceback in a file, which the line names.

    Args:
        arguments: The arguments after the program's name.

    Returns:
        The exit status: 0 done, 1 an unforeseen error, 2 a mistake that one line on standard
        error explains, 129, 130 or 143 stopped by SIGHUP, Ctrl-C or SIGTERM, 141 the reader of
        standard output has gone.
    """
    console.escape_unencodable()
    try:
        # Before Cyclopts imports it, which says nothing of it.
        if arguments and arguments[0] in _COMMANDS:
            _imported(arguments[0])
        status = _app.meta(arguments, exit_on_error=False, print_error=False) or 0
        sys.stdout.flush()
        return status
    except cyclopts.CycloptsError as problem:
        console.error(str(problem))
    except signals.Stopped as stopped:
        console.error(str(stopped))
        return stopped.status
    except KeyboardInterrupt:
        console.error("stopped before there was anything to save.")
        return 130
    except BrokenPipeError:
        console.close_output()
        return 141
    except OSError as problem:
        if problem.filename is None and problem.errno != errno.ENOSPC:
            return _unforeseen(problem)
        where = "standard output" if problem.filename is None else _name_of(problem.filename)
        console.error(f"{where}: {problem.strerror or problem}")
    except SystemExit as end:
        # Rich ends so where the reader of standard output has gone.
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        console.close_output()
        return 141
    # Not Exception: a panic in polars is no subclass of it.
    except BaseException as problem:
        if not _is_foreseen(problem):
            return _unforeseen(problem)
        console.error(_line_of(problem))
    return 2


def _line_of(problem: BaseException) -> str:
    from metajax.files import DataError

    if isinstance(problem, DataError):
        return problem.on_command_line()
    return str(problem.args[0] if isinstance(problem, KeyError) else problem)


def _name_of(filename: str | bytes | int) -> str:
    return os.fsdecode(filename) if isinstance(filename, str | bytes) else f"file {filename}"


def _is_foreseen(problem: BaseException) -> bool:
    """True for an error of a kind that says what to do, raised by a statement of this package.

    A ValueError of NumPy about shapes is none, though a function of this package called it.
    """
    from metajax.checkpoint import CheckpointError
    from metajax.cluster import ClusterError
    from metajax.data.fetch import DataUnavailable
    from metajax.data.memory import OutOfMemoryError
    from metajax.evaluation.workers import WorkersError
    from metajax.training import DivergedError

    rules: tuple[type[Exception], ...] = (CheckpointError, ClusterError, DataUnavailable)
    rules += (DivergedError, OutOfMemoryError, WorkersError)
    kinds = (*rules, ImportError, KeyError, TypeError, ValueError)
    return isinstance(problem, rules) or (isinstance(problem, kinds) and _is_raised_here(problem))


def _is_raised_here(problem: BaseException) -> bool:
    last = _innermost(problem.__traceback__)
    if last is None:
        return False
    code = last.tb_frame.f_code
    if isinstance(problem, ImportError):  # An import is no raise.
        return code.co_filename.startswith(_PACKAGE)
    instruction = dis.opname[code.co_code[last.tb_lasti]]
    return code.co_filename.startswith(_PACKAGE) and instruction == "RAISE_VARARGS"


def _innermost(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return frames


def _unforeseen(problem: BaseException) -> int:
    """Prints one line, and writes the traceback to a file."""
    kind, text = type(problem).__name__, str(problem).partition("\n")[0]
    if isinstance(problem, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        said = f"out of memory: {text}".rstrip(": ")
    else:
        said = f"unforeseen error, {kind}: {text}".rstrip(": ")
    try:
        handle, name = tempfile.mkstemp(prefix="metajax-", suffix=".log")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(traceback.format_exception(problem, chain=True))
    except (OSError, RecursionError) as trouble:
        console.error(f"{said} (the traceback could not be written: {trouble}).")
    else:
        console.error(f"{said} (traceback in {name}).")
    return 1


def _imported(name: str) -> ModuleType:
    """Imports the module of a command, and with it JAX."""
    _check_address_space()
    with console.starting():
        module = importlib.import_module(f"metajax.cli.{name}")
    signals.restore_interrupt()
    return module


def _check_address_space() -> None:
    """Refuses to start where JAX would end the process.

    Raises:
        ValueError: If the limit of the process's address space is too low.
    """
    try:
        import resource
    except ImportError:  # There is no such limit on this system.
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit not in (-1, resource.RLIM_INFINITY) and limit < _ADDRESS_SPACE:
        raise ValueError(
            f"the address space must be at least {_ADDRESS_SPACE / 2**30:g} GiB, the limit of "
            f"this process is {limit / 2**30:.2g} GiB (ulimit -v)."
        )


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


def command_line() -> App:
    """Returns the application, for pages that describe it; to run a command there is `main`."""
    return _app


# The help of a command that trains shows the options of the chosen method, so that it is printed
# after the method is known.
_app.meta.help_flags = ()
_app.meta.suppress_keyboard_interrupt = False


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
        module = _imported(name)
        from metajax.cli import sources

        prepare = getattr(module, "prepare", sources.without_config)
        _app.config, tokens = prepare(config, tokens)
    return _app(tokens, exit_on_error=False, print_error=False)
