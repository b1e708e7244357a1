"""Everything training on a knowledge graph can be told, with its defaults."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

__all__ = ["GraphSettings", "from_json", "to_json"]


@dataclasses.dataclass(frozen=True)
class GraphSettings:
    """Settings of `metajax graph train`."""

    source: str = ""
    """A name (ml-100k) or a file: .ttl, .nt, .kg, or .tsv of head, relation, tail."""
    _: dataclasses.KW_ONLY
    link: str | None = None
    """A .link file of RecBole: which entity each item is."""
    item_prefix: str | None = None
    """What stands before an item's id in the name of its entity."""
    literals: Literal["error", "attributes"] = "error"
    """What texts and numbers are where an entity could stand: an error, or attributes."""
    without: tuple[str, ...] = ()
    """Patterns of relations to leave out, such as *award*; they may be given several times."""
    share: float = 0.05
    """Share of the triples that are asked for in the end, and as many for validation."""

    score: str = "RotatE"
    """What embeddings are trained for: RotatE, TransE, DistMult or ComplEx."""
    width: int = 32
    """Dimensions of an embedding, complex ones where the score is in complex numbers."""
    margin: float = 6.0
    """Distance at which a triple is as likely true as not."""
    negatives: int = 16
    """False triples of each true one, for each of head, relation and tail."""
    rate: float = 0.01
    """Learning rate of Adam."""
    batch: int = 1024
    """Triples of an update."""
    epochs: int = 60
    """Most epochs."""
    seed: int = 0
    """Seed of the split, of the first embeddings and of what is drawn."""

    validate_every: int = 10
    """Epochs between validations."""
    patience: int = 3
    """Validations without improvement before training stops."""

    def __post_init__(self):
        """Refuses values that can mean nothing and that nobody else would look at in time."""
        for name, rule, holds in (
            ("rate", "> 0", self.rate > 0),
            ("seed", ">= 0", self.seed >= 0),
            ("epochs", ">= 1", self.epochs >= 1),
            ("validate_every", ">= 1", self.validate_every >= 1),
            ("patience", ">= 1", self.patience >= 1),
        ):
            if not holds:
                raise ValueError(f"{name} must be {rule}, got {getattr(self, name)}.")


def to_json(settings: GraphSettings) -> str:
    """Writes settings as JSON."""
    return json.dumps(dataclasses.asdict(settings), indent=1) + "\n"


def from_json(path: Path) -> GraphSettings:
    """Reads settings that `to_json` wrote.

    Raises:
        ValueError: If the file is no such settings; names the file.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        values["without"] = tuple(values["without"])
        return GraphSettings(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the settings of a run on a graph: {error}") from None
