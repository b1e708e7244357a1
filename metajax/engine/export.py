"""A fitted model as one StableHLO program, for runtimes without Python."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.export import Exported
from jax.export import export as exported_of

from metajax import storage
from metajax.engine.model import FittedModel
from metajax.types import Examples, Inputs

__all__ = ["export", "program"]


def program(model: FittedModel, *, support: int = 16, platform: str | None = None) -> Exported:
    """Compiles adaptation to one user and prediction of all items into one program.

    Its arguments, in order, are

    - `[Du]` float32 the user's attributes, encoded by the user schema (`schema.encode_rows`);
    - `[support]` int32 places in the catalogue of the user's items;
    - `[support]` float32 the user's ratings of them, in the unit of the log; in a log without
      ratings labels in (0, 1], 1 for an interaction;
    - `[support]` bool, False on padding, where items and ratings may be anything.

    Its results are `[I]` float32 predictions in the order of the catalogue, ratings within their
    scale of a method that predicts ratings, and `[I]` float32 scores that order the items, the
    rated ones included. Parameters are constants of the program.

    Args:
        model: The model, of one domain.
        support: Most interactions that are shown, >= 1. A sequence is padded at its end.
        platform: `cpu`, `cuda`, `rocm` or `tpu`; None: that of the default device.

    Returns:
        The program; `call` runs it, `mlir_module()` is its text, and `serialize()` writes it for
        `jax.export.deserialize`, with the package flatbuffers.

    Raises:
        ValueError: If `support` < 1, or the platform is unknown.
    """
    if support < 1:
        raise ValueError(f"support must be >= 1, got {support}.")
    known = ("cpu", "cuda", "rocm", "tpu")
    if platform is not None and platform not in known:
        raise ValueError(f"platform must be one of {', '.join(known)}, got {platform!r}.")
    recommender = model.recommender
    adaptation, params, labels = recommender.adaptation, recommender.params, recommender.labels
    item_features = jnp.asarray(recommender.catalogue.item_features)
    rated = recommender.scale is not None

    def serve(
        user: jax.Array, items: jax.Array, ratings: jax.Array, mask: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        def inputs(items: jax.Array) -> Inputs:
            return Inputs(
                jnp.broadcast_to(user, (len(items), len(user))), item_features[items], items
            )

        items = jnp.where(mask, items, 0)
        if rated:
            ratings = labels.clipped_on_device(ratings)
        ratings = jnp.where(mask, ratings, 0)
        adapted = adaptation.adapt(params, Examples(inputs(items), ratings, mask))
        everything = inputs(jnp.arange(len(item_features)))
        scores = ranks = adaptation.predict(params, adapted, everything)
        if adaptation.rank is not None:
            ranks = adaptation.rank(params, adapted, everything)
        if rated and recommender.rating:
            low, high = sorted(recommender.scale or (0, 0))
            scores = jnp.clip(labels.outside_on_device(jnp.clip(scores, 1, 5)), low, high)
        return scores, ranks

    # An argument that a method does not use stays an argument: all programs are called alike.
    return exported_of(
        jax.jit(serve, keep_unused=True), platforms=None if platform is None else [platform]
    )(
        jax.ShapeDtypeStruct((model.shapes.user_width,), jnp.float32),
        jax.ShapeDtypeStruct((support,), jnp.int32),
        jax.ShapeDtypeStruct((support,), jnp.float32),
        jax.ShapeDtypeStruct((support,), bool),
    )


def export(
    model: FittedModel,
    path: str | os.PathLike[str],
    *,
    support: int = 16,
    platform: str | None = None,
) -> Exported:
    """Writes the program of a model as StableHLO bytecode.

    The bytes are a portable artifact, which later versions of StableHLO read. Methods that solve
    linear systems or factorise matrices call LAPACK, or its like on other platforms, by name
    (`stablehlo.custom_call`): a runtime must have those of XLA.

    Args:
        model: As in `program`.
        path: The file; one that exists is replaced.
        support: As in `program`.
        platform: As in `program`.

    Returns:
        The program that was written.

    Raises:
        ValueError: As `program`.
        OSError: If the file cannot be written.
    """
    found = program(model, support=support, platform=platform)
    storage.write_file(Path(path), found.mlir_module_serialized)
    return found
