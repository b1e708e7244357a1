"""The contract of a closed-form baseline."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from metajax.fields import Search
from metajax.losses import check_shapes
from metajax.types import Adaptation, Examples, Params, Predict

__all__ = [
    "Baseline",
    "Blend",
    "WeightTable",
    "adapt_to_nothing",
    "check_positive",
    "observed",
]

MOST_ITEMS = 20_000
"""Largest catalogue of which a table of items by items is kept: 1.6 GB of float32 at this size, and
the time of its inverse grows with the cube."""

WeightTable = Mapping[str, Mapping[str, Mapping[int, float]]]
"""By kind of support, "any" for any of a user's interactions and "first" for the first ones; by
expert; by number of interactions: the expert's signed weight, whose sizes sum to 1."""


class Blend(NamedTuple):
    """The experts of a method that orders items by a sum of their scores."""

    names: Callable[[Params], tuple[str, ...]]
    """`names(params) -> E` names of the experts."""
    parts: Predict
    """`parts(params, adapted, inputs) -> [N, E]`: each expert's part of the score. They sum to
    `Adaptation.rank`, or where there is none to `predict`."""
    weights: Callable[[Params], WeightTable]
    """`weights(params)`: which experts order the items."""


class Baseline(NamedTuple):
    """A method in closed form, without meta-training.

    A module of `metajax.baselines` or `metajax.cross_domain` lists its own in a tuple `baselines`,
    where `metajax.registry` finds them.
    """

    name: str
    """Name in tables and on the command line."""
    predicts: Literal["rating", "ranking", "both"]
    """Meaning of the scores: ratings on the scale, only an order of the items, or ratings by
    `predict` and an order by `rank`."""
    fit: Callable[..., Params]
    """`fit(training, **settings) -> params`, on the host; params are float32, float16 and int32
    arrays."""
    adaptation: Adaptation
    """Adapts the parameters to a user."""
    grid: tuple[Mapping[str, Any], ...] = ({},)
    """Settings to try on validation users, the default first."""
    ranges: Mapping[str, Search] = MappingProxyType({})
    """Values that a search tries, by the names of settings; where there are none, the grid. Each
    has a default, that of the grid's first setting or of `fit`."""
    two_domains: bool = False
    """True if it needs a source and a target domain."""
    target_alone: bool = False
    """True if its scores in the target depend on the target alone: no transfer."""
    kind: Literal["baseline", "learned"] = "baseline"
    """A baseline or a learned method in comparisons."""
    fit_many: Callable[[Any, Sequence[Mapping[str, Any]]], Iterable[Params]] | None = None
    """`fit_many(training, settings) -> params` of each, where several settings share work."""
    blend: Blend | None = None
    """Of a method that blends experts; None of any other."""
    refit: Callable[..., Params] | None = None
    """`refit(params, training, **settings) -> params`: fits to more data in less time by what an
    earlier fit has found. Attributes are encoded as they were then; items have other places. None:
    `fit` anew."""
    of_grades: tuple[str, ...] = ()
    """Settings that change nothing where every preference is 1, such as its exponent."""
    most_items: int | None = None
    """Largest catalogue that it can be fitted to; None: any."""
    memory: Callable[..., float] = lambda shapes, **settings: 0.0
    """`memory(shapes, **settings)`: about how many bytes the largest arrays of `fit` take, where
    they grow with the square of the items, or with large tables times a width; `shapes` are
    `metajax.data.dataset.Shapes`."""
    reduced: Callable[[int], tuple[str, ...]] = lambda items: ()
    """`reduced(items)`: in a sentence each, what is left out for a catalogue of this size."""

    @property
    def predicts_ratings(self) -> bool:
        """True if `predict` returns ratings."""
        return self.predicts != "ranking"

    @property
    def needs_ratings(self) -> bool:
        """True if it cannot be fitted to a log without ratings."""
        return self.predicts == "rating"


def adapt_to_nothing(params: Params, support: Examples, key: jax.Array | None = None) -> tuple[()]:
    """Adaptation of unpersonalised methods: the adapted state is empty."""
    return ()


def observed(support: Examples) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns items, labels and presence of a support, all 0 on padding.

    Padding may hold anything, NaN and ids beyond the catalogue included.

    Args:
        support: `[N]` examples whose inputs are `metajax.types.Inputs`.

    Returns:
        `[N]` item, `[N]` label, both 0 on padding, and `[N]` float32 presence (1, or 0 on padding).

    Raises:
        ValueError: If the shapes differ.
    """
    item, label, mask = support.inputs.item, support.labels, support.mask
    mask = jnp.ones(item.shape, bool) if mask is None else mask
    check_shapes(item=item, labels=label, mask=mask)
    return jnp.where(mask, item, 0), jnp.where(mask, label, 0), mask.astype(jnp.float32)


def check_positive(**settings: float) -> None:
    """Refuses settings that are not above 0, by their names."""
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"{name} must be > 0, got {value}.")
