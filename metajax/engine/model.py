"""The model folder: a fitted method that recommends without its data.

    MODEL/model.json            method and settings, structure of its parameters, scale and labels;
                                of a method that blends experts their weights, to be read by people
    MODEL/schema.json           how users and items are encoded
    MODEL/catalogue.json        ids, titles and raw attributes of the items, facts of a graph
    MODEL/arrays.safetensors    parameters, the items' encoded features, which item has which fact,
                                hashes of user ids
    MODEL/manifest.json         version of the format, size and sha256 of each file; written last

No file holds code, and none is unpickled: classes of parameters are named, and looked up in the
packages that define registered methods. The folder is made under another name and appears in one
rename; any damaged or missing file is refused by name before any of it is used.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from metajax import display, parameters, registry, storage
from metajax.baselines import Baseline, WeightTable
from metajax.data import schema
from metajax.data.dataset import Shapes
from metajax.data.labels import Grades, Labels
from metajax.data.schema import Schema
from metajax.fields import with_tuples
from metajax.files import read_bytes
from metajax.knowledge import SharedFacts
from metajax.methods import Settings
from metajax.runs import serving
from metajax.runs.catalogue import Catalogue
from metajax.runs.folder import claim, publish
from metajax.runs.recommender import Recommender
from metajax.storage import Digest
from metajax.types import Adaptation, Params

__all__ = [
    "FORMAT",
    "FittedModel",
    "hashed",
    "is_model",
    "load",
    "method_in",
    "recommender_of",
    "save",
]

FORMAT = 5
"""Version of the format; a folder of another one is refused."""

_MANIFEST = "manifest.json"
_MODEL, _SCHEMA, _CATALOGUE = "model.json", "schema.json", "catalogue.json"
_ARRAYS = "arrays.safetensors"
_FILES = (_ARRAYS, _CATALOGUE, _MODEL, _SCHEMA)
_FEATURES, _USERS, _ROWS = "item_features", "fitted_users", "user_rows"
_FACT_ITEM, _FACT = "facts/item", "facts/fact"


class FittedModel(NamedTuple):
    """A method fitted to all users of a log."""

    method: str
    """Its name in the registry."""
    settings: Mapping[str, Any]
    """Its settings: of a closed form those of the grid, else those of its training."""
    shapes: Shapes
    """Sizes of the training set."""
    recommender: Recommender
    """The method with its parameters, the encoding of users, and the catalogue."""
    item_schema: Schema
    """Encoding of the items' attributes: the first columns of the catalogue's `item_features`. The
    others are content vectors of the graph that it was fitted with, if any."""
    fitted_users: np.ndarray
    """`[n]` uint64 `hashed` ids of the users that it was fitted to, so that it is never judged on
    them: first those of its log, then those of earlier models."""
    user_rows: np.ndarray
    """`[m]` int32 indices of the users of its log, by which tables have a row for each."""
    updates: int | None = None
    """Updates of its training from scratch; None of a closed form."""
    fisher: Params | None = None
    """Diagonal Fisher information of its training tasks, by which a refit to new data alone knows
    what must not be forgotten: `engine.consolidation`. None of a closed form."""

    @property
    def weights(self) -> WeightTable:
        """Weights of the experts that order the items, as of `Blend.weights`.

        Shares by kind of support, expert and number of interactions; empty of a method that blends
        none.
        """
        return registry.weights_of(self.method, self.recommender.params)

    def _repr_html_(self) -> str:
        catalogue, scale = self.recommender.catalogue, self.recommender.scale
        about = {
            "what it is": registry.description_of(self.method),
            "items": len(catalogue.ids),
            "users it was fitted to": len(self.fitted_users),
            "ratings": "none" if scale is None else "{:g} to {:g}".format(*scale),
            "settings": self.settings,
        }
        found = display.facts(f"Model of {self.method}", about)
        for kind, experts in self.weights.items():
            ks = sorted({k for by_number in experts.values() for k in by_number})
            rows = [
                [name, *(f"{by_number.get(k, 0.0):.0%}" for k in ks)]
                for name, by_number in experts.items()
            ]
            caption = f"Weights of experts, support: {kind}"
            found += display.grid(["expert", *(f"K = {k}" for k in ks)], rows, caption=caption)
        return found


def hashed(ids: Iterable[str]) -> np.ndarray:
    """Hashes ids to 64 bits, by which a model knows its users again without holding their names.

    Without a secret, the hash of a guessed id can be looked up: this shortens, it does not
    anonymise.

    Args:
        ids: n texts.

    Returns:
        `[n]` uint64 BLAKE2b digests of their UTF-8.

    Example:
        >>> hashed(["u1", "u2"]).dtype, len(hashed([]))
        (dtype('uint64'), 0)
    """
    digests = [
        hashlib.blake2b(str(name).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for name in ids
    ]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def recommender_of(
    method: str,
    settings: Mapping[str, Any],
    shapes: Shapes,
    params: Params,
    user_schema: Schema,
    catalogue: Catalogue,
    scale: tuple[float, float] | None,
    labels: Labels,
    grades: Grades,
) -> Recommender:
    """Returns the recommender of a fitted method.

    Args:
        method: Its name in the registry.
        settings: As in `FittedModel`.
        shapes: Of the training set.
        params: Its parameters.
        user_schema: Encoding of users.
        catalogue: The items.
        scale: Worst and best rating, in the unit of the log; None for an implicit log.
        labels: How ratings are standardised.
        grades: Labels of interactions, of an implicit log.

    Raises:
        ValueError: If there is no such method, or the settings are not its own.
    """
    adaptation, rating = _functions(method, settings, shapes)
    rating = rating and scale is not None  # Without ratings, scores only order.
    blend = registry.blend_of(method)
    return Recommender(
        adaptation, params, user_schema, catalogue, scale, labels, rating, grades, blend
    )


def save(model: FittedModel, folder: str | os.PathLike[str]) -> Path:
    """Writes a model folder, whole or not at all.

    Args:
        model: The model.
        folder: A folder that does not exist yet.

    Returns:
        The folder.

    Raises:
        TypeError: If a parameter is neither an array nor a number, or its container is no tuple,
            list or dictionary.
        LockedError: If another process is writing this folder.
        OSError: If the folder exists or cannot be written.
    """
    found, catalogue = model.recommender, model.recommender.catalogue
    arrays = {
        _FEATURES: np.ascontiguousarray(catalogue.item_features),
        _USERS: np.ascontiguousarray(model.fitted_users),
        _ROWS: np.ascontiguousarray(model.user_rows),
    }
    names = serving.facts_of(catalogue)
    if (shared := catalogue.facts) is not None:
        arrays |= {_FACT_ITEM: shared.item, _FACT: shared.fact}
        names["facts"] = {"relation": shared.relation.tolist(), "value": shared.value.tolist()}
    facts = {
        "metajax": version("metajax"),
        "method": model.method,
        "settings": dict(model.settings),
        "shapes": model.shapes._asdict(),
        "scale": found.scale,
        "labels": found.labels._asdict(),
        "grades": found.grades._asdict(),
        "params": parameters.described(found.params, "params", arrays),
        "updates": model.updates,
        "fisher": parameters.described(model.fisher, "fisher", arrays),
    }
    if model.weights:
        facts["weights"] = model.weights
    schemas = {"user": found.user_schema, "item": model.item_schema}
    contents: dict[str, str | bytes] = {
        _MODEL: _json(facts),
        _SCHEMA: _json({name: json.loads(schema.to_json(s)) for name, s in schemas.items()}),
        _CATALOGUE: _json(names),
    }
    digests = {name: list(storage.digest_of(content)) for name, content in contents.items()}
    with claim(Path(folder)) as held:
        for name, content in contents.items():
            storage.write_file(held.building / name, content)
        digests[_ARRAYS] = list(_write_arrays(held.building / _ARRAYS, arrays))
        storage.write_file(held.building / _MANIFEST, _manifest_of(FORMAT, digests))
        publish(held)
    return Path(folder)


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> Digest:
    """Writes a new file of arrays, none of which is copied, and forces it to the disk.

    Raises:
        OSError: If it cannot be written.
    """
    try:
        safetensors.numpy.save_file(dict(arrays), path)
    except safetensors.SafetensorError as error:
        # The number of the system's error stands in the text alone.
        found = re.search(r"\(os error (\d+)\)", str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from None
    storage.sync(path)
    return storage.digest_of_file(path)


def is_model(folder: str | os.PathLike[str]) -> bool:
    """True if the folder looks like that of a model, whole or damaged."""
    return any((Path(folder) / name).is_file() for name in (_MANIFEST, _MODEL))


def method_in(folder: str | os.PathLike[str]) -> str | None:
    """Returns the name of a model's method without reading the rest; None if there is no model.

    Nothing is verified: `load` does that.
    """
    try:
        found = json.loads((Path(folder) / _MODEL).read_text())["method"]
        return registry.method_of(found).name
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def load(folder: str | os.PathLike[str]) -> FittedModel:
    """Reads a model folder; every byte is verified first.

    Args:
        folder: Folder that `save` wrote.

    Returns:
        The model.

    Raises:
        ValueError: If no model is there, a file is missing or damaged, the format is newer than
            this version reads, or its method is not installed.
    """
    folder = Path(folder)
    if not is_model(folder):
        raise ValueError(f"{folder}: no model is here (there is no {_MANIFEST}).")
    for name, digest in _manifest(folder / _MANIFEST).items():
        storage.check(folder / name, digest)
    facts, schemas, names = (
        json.loads(read_bytes(folder / name)) for name in (_MODEL, _SCHEMA, _CATALOGUE)
    )
    arrays = safetensors.numpy.load_file(folder / _ARRAYS)
    catalogue = serving.catalogue_from(names, arrays[_FEATURES])
    if "facts" in names:
        texts = (np.array(names["facts"][name], dtype=str) for name in ("relation", "value"))
        shared = SharedFacts(arrays[_FACT_ITEM], arrays[_FACT], *texts)
        catalogue = catalogue._replace(facts=shared)
    settings, shapes = with_tuples(facts["settings"]), Shapes(**with_tuples(facts["shapes"]))
    scale = facts["scale"]
    try:
        params = parameters.restored(facts["params"], arrays)
        fisher = parameters.restored(facts["fisher"], arrays)
        recommender = recommender_of(
            facts["method"],
            settings,
            shapes,
            params,
            schema.from_json(json.dumps(schemas["user"])),
            catalogue,
            None if scale is None else (scale[0], scale[1]),
            Labels(**facts["labels"]),
            Grades(**facts["grades"]),
        )
    except ValueError as error:
        raise ValueError(f"{folder / _MODEL}: {error}") from None
    item_schema = schema.from_json(json.dumps(schemas["item"]))
    return FittedModel(
        facts["method"],
        settings,
        shapes,
        recommender,
        item_schema,
        arrays[_USERS],
        arrays[_ROWS],
        facts["updates"],
        fisher,
    )


def _functions(method: str, settings: Mapping[str, Any], shapes: Shapes) -> tuple[Adaptation, bool]:
    """Returns the pair of functions of a method, and whether its scores are ratings."""
    found = registry.method_of(method)
    if isinstance(found, Baseline):
        return found.adaptation, found.predicts_ratings
    chosen: Settings = registry.settings_for(found, **settings)
    return registry.judged_adaptation_of(chosen, shapes), registry.predicts_ratings(chosen)


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _manifest_of(number: int, digests: Mapping[str, Any]) -> bytes:
    content = {"format": number, "files": dict(sorted(digests.items()))}
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps({**content, "digest": digest}, indent=1).encode()


def _manifest(path: Path) -> dict[str, Digest]:
    """Reads the manifest: digests of files by name.

    Raises:
        ValueError: If it is missing, damaged, or of a newer format.
    """
    if not path.is_file():
        raise ValueError(f"{path}: is missing.")
    text = path.read_bytes()
    try:
        content = json.loads(text)
        number, held = content["format"], dict(content["files"])
        # Byte by byte: what JSON reads alike, such as another space, is damage too.
        whole = text == _manifest_of(number, held)
    except (ValueError, KeyError, TypeError, RecursionError):
        whole, number, held = False, FORMAT, {}
    if not whole:
        raise ValueError(f"{path}: is damaged.")
    if number > FORMAT:
        raise ValueError(
            f"{path}: the model has format {number}, this version of metajax reads {FORMAT}: "
            "install a newer one."
        )
    if number < FORMAT:
        raise ValueError(
            f"{path}: the model has format {number}, this version of metajax reads {FORMAT}: fit "
            "it again."
        )
    if tuple(held) != _FILES:
        raise ValueError(f"{path}: must list {', '.join(_FILES)}, got {', '.join(held)}.")
    return {name: Digest(*digest) for name, digest in held.items()}
