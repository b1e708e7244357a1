"""Files of a run that recommendation needs besides settings, schema and parameters.

    catalogue.json       ids, titles and raw attributes of the items, their domains, the scale of
                         ratings and how they are standardised, and sizes of the training set that
                         the network depends on
    item_features.npz    the items' encoded features

With them a run recommends without its data: those may be moved, extended or deleted.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax.data.dataset import Shapes, Table
from metajax.data.labels import Grades, Labels
from metajax.fields import with_tuples
from metajax.runs.catalogue import Catalogue
from metajax.runs.folder import read_json
from metajax.runs.item_index import index_of_items

__all__ = ["Served", "catalogue_from", "contents_of", "facts_of", "read"]

_CATALOGUE = "catalogue.json"
_FEATURES = "item_features.npz"


class Served(NamedTuple):
    """Facts of the data that recommendation needs."""

    catalogue: Catalogue
    """The items."""
    scale: tuple[float, float] | None
    """As in `Dataset`."""
    labels: Labels
    """How ratings are standardised."""
    shapes: Shapes
    """Of the training set."""
    grades: Grades = Grades()
    """Labels of interactions, of a log without ratings."""


def contents_of(served: Served) -> dict[str, str | bytes]:
    """Returns the contents of the files by name."""
    catalogue = served.catalogue
    facts = {
        "scale": served.scale,
        "labels": served.labels._asdict(),
        "grades": served.grades._asdict(),
        "shapes": served.shapes._asdict(),
        **facts_of(catalogue),
    }
    features = io.BytesIO()
    np.savez_compressed(features, item_features=catalogue.item_features)
    return {_CATALOGUE: json.dumps(facts, indent=1) + "\n", _FEATURES: features.getvalue()}


def facts_of(catalogue: Catalogue) -> dict[str, Any]:
    """Describes a catalogue as JSON, but for the encoded features."""
    domain, table = catalogue.item_domain, catalogue.attributes
    columns = {} if table is None else table.columns
    return {
        "ids": catalogue.ids.tolist(),
        "titles": catalogue.titles.tolist(),
        "domain": None if domain is None else domain.tolist(),
        "attributes": None if table is None else {n: c.tolist() for n, c in columns.items()},
        "kinds": None if table is None else table.kinds,
    }


def catalogue_from(facts: Mapping[str, Any], item_features: np.ndarray) -> Catalogue:
    """Builds the catalogue that `facts_of` described.

    Args:
        facts: From `facts_of`.
        item_features: `[I, Di]` the items' encoded features.
    """
    ids, domain, columns = np.array(facts["ids"], dtype=str), facts["domain"], facts["attributes"]
    table = None
    if columns is not None:
        texts = {name: np.array(column, dtype=str) for name, column in columns.items()}
        table = Table(ids, texts, facts["kinds"])
    return Catalogue(
        ids,
        np.array(facts["titles"], dtype=str),
        item_features,
        None if domain is None else np.array(domain, np.int32),
        index_of_items(facts["ids"], facts["titles"]),
        table,
    )


def read(folder: Path) -> Served:
    """Reads the files of `contents_of`.

    Args:
        folder: Folder of a run.

    Raises:
        ValueError: If a file cannot be read; names it.
    """
    facts = read_json(folder / _CATALOGUE)
    try:
        with np.load(folder / _FEATURES, allow_pickle=False) as content:
            features = content["item_features"]
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{folder / _FEATURES}: cannot be read: {error}") from None
    scale = facts["scale"]
    return Served(
        catalogue_from(facts, features),
        None if scale is None else (scale[0], scale[1]),
        Labels(**facts["labels"]),
        Shapes(**with_tuples(facts["shapes"])),
        Grades(**facts["grades"]),
    )
