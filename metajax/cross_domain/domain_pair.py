"""Which two domains a run is about, and how to get them again."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from metajax.cross_domain.domains import Domains, join_domains, split_domains
from metajax.cross_domain.overlap import read_overlap_list
from metajax.data import datasets

__all__ = ["Crossing", "absolute", "from_json", "load_domains", "to_json"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crossing:
    """A source and a target domain: two data sets, or one that is split by what its items are."""

    source: str
    """Data set (a name or a path) where there is plenty; with a column, its tokens of the source,
    separated by commas."""
    target: str
    """The same of where there is little."""
    column: str | None = None
    """Column of tokens of the items by which one data set is split."""
    data: str = "ml-100k"
    """The data set that is split."""
    matched: bool = True
    """Whether anybody is in both data sets."""
    overlap_list: str | None = None
    """File of user ids, or of pairs of ids, that are one person; by default equal ids are."""
    rescale: bool = False
    """Whether to map the source's ratings to the target's scale."""

    def __post_init__(self):
        """Refuses what can mean nothing."""
        if not self.source or not self.target:
            raise ValueError(
                "source and target must both be given, as data sets or, with a column, as tokens "
                f"of it, got {self.source!r} and {self.target!r}."
            )
        if self.column is not None and (
            not self.matched or self.rescale or self.overlap_list is not None
        ):
            raise ValueError(
                "matched, rescale and overlap_list are about two data sets, got column "
                f"{self.column!r}, which splits one."
            )

    @property
    def main(self) -> str:
        """The data set that is recommended from."""
        return self.target if self.column is None else self.data


def load_domains(
    crossing: Crossing,
    reading: Mapping[str, Any],
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> Domains:
    """Loads what a crossing names.

    Args:
        crossing: Which domains.
        reading: Options of `data.read` for what is read from a path; names are read one way.
        progress: Called as bytes arrive, if any have to be fetched.

    Returns:
        The domains.

    Raises:
        ValueError: If a data set is not there or not as it should be, or the two do not fit.
        OSError: If the overlap list cannot be read.
    """

    def load(name: str) -> Any:
        options = {} if name in datasets.names() else reading
        return datasets.load(name, progress=progress, **options)

    if crossing.column is not None:
        source, target = (
            {token.strip() for token in tokens.split(",") if token.strip()}
            for tokens in (crossing.source, crossing.target)
        )
        return split_domains(load(crossing.data), crossing.column, source, target)
    listed = crossing.overlap_list
    return join_domains(
        load(crossing.source),
        load(crossing.target),
        matched=crossing.matched,
        overlap_list=None if listed is None else read_overlap_list(listed),
        rescale=crossing.rescale,
    )


def absolute(crossing: Crossing) -> Crossing:
    """Names files so that they are found from any folder."""

    def place(name: str) -> str:
        return name if name in datasets.names() else str(Path(name).resolve())

    if crossing.column is not None:
        return dataclasses.replace(crossing, data=place(crossing.data))
    listed = crossing.overlap_list
    return dataclasses.replace(
        crossing,
        source=place(crossing.source),
        target=place(crossing.target),
        overlap_list=None if listed is None else str(Path(listed).resolve()),
    )


def to_json(crossing: Crossing) -> str:
    """Writes a crossing as JSON."""
    return json.dumps(dataclasses.asdict(crossing), indent=1) + "\n"


def from_json(path: Path) -> Crossing:
    """Reads a crossing that `to_json` wrote.

    Raises:
        ValueError: If the file is no such crossing; names the file.
    """
    try:
        return Crossing(**json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the domains of a run: {error}") from None
