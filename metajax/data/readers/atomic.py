"""Reader of RecBole atomic files: `.inter`, with optional `.user` and `.item`.

Reference: Zhao et al., "RecBole: Towards a unified, comprehensive and efficient framework for
recommendation algorithms", CIKM 2021, arXiv:2011.01731, section 3.2.
"""

from pathlib import Path

from metajax.data.dataset import Dataset, Kind, Table
from metajax.data.readers.assembly import (
    Duplicates,
    Scale,
    assemble,
    description,
    find_roles,
    log_of,
)
from metajax.data.readers.text import DataError, TextTable, delimited, shown
from metajax.files import check_file, read_bytes

__all__ = ["read_atomic"]

# There is no kind for vectors: a float_seq is kept for people and not encoded.
_KINDS: dict[str, Kind] = {
    "token": "categorical",
    "token_seq": "tokens",
    "float": "numeric",
    "float_seq": "text",
}


def read_atomic(
    path: str | Path, *, duplicates: Duplicates = "error", scale: Scale | None = None
) -> Dataset:
    """Reads RecBole atomic files.

    Tab separated, quoting off, a header of `name:type`. A `token` is a string ("001" is not 1)
    and becomes a categorical feature, a `token_seq` tokens, a `float` a number. A `token_seq`
    whose name contains "title" or "name" is text.

    Args:
        path: A `.inter` file, or a folder with one.
        duplicates: As in `assemble`.
        scale: As in `assemble`.

    Returns:
        The data set, named by its path.

    Raises:
        DataError: If a file is missing or not as described; it names file, line and column.
    """
    log_path = _log_path(Path(path))
    log, _ = _read(log_path)
    roles = find_roles(log_path, list(log.columns))
    return assemble(
        str(path),
        log_of(log, roles),
        users=_features(log_path.with_suffix(".user"), roles.user),
        items=_features(log_path.with_suffix(".item"), roles.item),
        duplicates=duplicates,
        scale=scale,
    )


def _log_path(path: Path) -> Path:
    if not path.is_dir():
        return check_file(path)
    logs = sorted(path.glob("*.inter"))
    if len(logs) != 1:
        names = ", ".join(log.name for log in logs) or "none"
        raise DataError(f"a folder must hold one .inter file, found {names}.", file=path)
    return logs[0]


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


def _features(path: Path, ids: str) -> Table | None:
    if not path.exists():
        return None
    table, kinds = _read(path)
    if ids not in kinds:
        raise DataError(
            f"no column {ids!r}, which the log has; found {', '.join(kinds)}.", file=path
        )
    del kinds[ids]
    return description(table, ids, kinds)
