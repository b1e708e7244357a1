"""Reader of RecBole atomic files: `.inter`, with optional `.user` and `.item`.

Reference: Zhao et al., "RecBole: Towards a unified, comprehensive and efficient framework for
recommendation algorithms", CIKM 2021, arXiv:2011.01731, section 3.2.
"""

from pathlib import Path

import numpy as np

from metajax.data.dataset import Dataset, Kind, Table
from metajax.data.readers.assembly import (
    Log,
    assemble,
    check_unused,
    description,
    find_roles,
    id_column,
    log_of,
    unused_note,
)
from metajax.data.readers.attributes import attributes_of
from metajax.data.readers.contents import content_of
from metajax.data.readers.text import DataError, Place, TextTable, delimited, shown
from metajax.data.reading import Reading
from metajax.files import check_file, read_bytes

__all__ = ["is_atomic", "read_atomic"]

# There is no kind for vectors: a float_seq is kept for people and not encoded.
_KINDS: dict[str, Kind] = {
    "token": "categorical",
    "token_seq": "tokens",
    "float": "numeric",
    "float_seq": "text",
}
_PARTS = ("train", "valid", "test")


def is_atomic(path: Path) -> bool:
    """True for a `.inter` file, or a folder with one."""
    return path.suffix == ".inter" if path.is_file() else any(path.glob("*.inter"))


def read_atomic(path: str | Path, reading: Reading = Reading()) -> Dataset:  # noqa: B008
    """Reads RecBole atomic files.

    Tab separated, quoting off, a header of `name:type`. A `token` is a string ("001" is not 1)
    and becomes a categorical feature, a `token_seq` tokens, a `float` a number. A `token_seq`
    whose name contains "title" or "name" is text. Files NAME.train.inter, NAME.valid.inter and
    NAME.test.inter are the parts of a split.

    Args:
        path: A `.inter` file, or a folder with one.
        reading: Options; columns are named without their type.

    Returns:
        The data set, named by its path.

    Raises:
        ValueError: If an option is given that the format fixes.
        DataError: If a file is missing or not as described; it names file, line and column.
    """
    layout = ("header", "separator", "encoding", "decimal")
    fixed = [name for name in layout if name in reading.reading()]
    if fixed:
        raise ValueError(f"{fixed[0]} may be given for a table, and {path} is atomic files.")
    files = _log_files(Path(path))
    logs = [_log(file, reading) for file in files]
    log, roles = _joined(logs), logs[0].roles
    stem = files[0].with_suffix("") if len(files) == 1 else files[0].with_suffix("").with_suffix("")
    users, items = (
        _features(stem.with_name(f"{stem.name}.{role}"), given, role, column, log, reading)
        for role, given, column in (
            ("user", reading.users, roles.user),
            ("item", reading.items, roles.item),
        )
    )
    return assemble(str(path), log, users=users, items=items, reading=reading)


def _log_files(path: Path) -> list[Path]:
    """Returns the log, or the parts of its split in their order."""
    if not path.is_dir():
        return [check_file(path)]
    logs = sorted(path.glob("*.inter"))
    parts = {file.with_suffix("").suffix[1:]: file for file in logs}
    if set(parts) == set(_PARTS) and len(logs) == len(_PARTS):
        return [parts[part] for part in _PARTS]
    if len(logs) != 1:
        names = ", ".join(log.name for log in logs) or "none"
        raise DataError(f"a folder must hold one .inter file, found {names}.", file=path)
    return logs


def _log(file: Path, reading: Reading) -> Log:
    table, kinds = _read(file)
    names = list(table.columns)
    roles = find_roles(file, names, reading)
    check_unused(file, names, roles, reading, lambda name, role: kinds[name] == "numeric")
    log = log_of(table, roles, reading)
    return log._replace(notes=(*unused_note(names, roles), *log.notes))


def _joined(logs: list[Log]) -> Log:
    if len(logs) == 1:
        return logs[0]
    sizes = [len(log.user) for log in logs]
    ends = np.cumsum(sizes)

    def place(row: int) -> Place:
        at = int(np.searchsorted(ends, row, side="right"))
        return logs[at].place(row - int(ends[at] - sizes[at]))

    columns = {}
    for role in ("user", "item"):
        ids = [getattr(log, f"{role}_ids") for log in logs]
        union = np.unique(np.concatenate(ids))
        codes = [
            np.searchsorted(union, names)[getattr(log, role)]
            for names, log in zip(ids, logs, strict=True)
        ]
        columns |= {f"{role}_ids": union, role: np.concatenate(codes)}
    for role in ("rating", "time"):
        values = [getattr(log, role) for log in logs]
        if any(value is None for value in values) != all(value is None for value in values):
            raise DataError(
                f"all parts must have a {role}, or none.", file=logs[0].place(0)["file"]
            )
        columns[role] = None if values[0] is None else np.concatenate(values)
    notes = tuple(dict.fromkeys(note for log in logs for note in log.notes))
    part = np.repeat(np.arange(len(logs)), sizes)
    return Log(roles=logs[0].roles, place=place, notes=notes, part=part, **columns)


def _read(path: Path) -> tuple[TextTable, dict[str, Kind]]:
    table = delimited(read_bytes(path), str(path), "\t")
    columns, kinds = {}, {}
    for header, fields in table.columns.items():
        name, _, kind = header.rpartition(":")
        if not name or kind not in _KINDS:
            raise DataError(
                f"a column must be name:type with type {', '.join(_KINDS)}, got {shown(header)}.",
                file=path,
                line=1,
            )
        is_text = kind == "token_seq" and ("title" in name.lower() or "name" in name.lower())
        columns[name], kinds[name] = fields, "text" if is_text else _KINDS[kind]
    return table._replace(columns=columns), kinds


def _features(
    beside: Path, given: str | None, role: str, column: str, log: Log, reading: Reading
) -> Table | None:
    path = Path(beside if given is None else given)
    if given is None and not path.exists():
        return None
    if path.suffix not in (".user", ".item"):
        return attributes_of(content_of(path), role, column, getattr(log, f"{role}_ids"), reading)[
            0
        ]
    table, kinds = _read(path)
    ids = id_column(path, list(kinds), role, column)
    del kinds[ids]
    return description(table, ids, kinds)
