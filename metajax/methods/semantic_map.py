"""Semantic map: attributes of items into the space of pretrained embeddings."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
import numpy as np

from metajax import learners
from metajax.baselines.attribute_factors import with_attributes
from metajax.baselines.content import content_features, fit_content, item_domains
from metajax.baselines.factors import fit_factors
from metajax.data.dataset import Shapes, TrainingSet
from metajax.data.interactions import select_rows
from metajax.methods.method import Method
from metajax.methods.parts import by_one_pass, identities_of
from metajax.methods.settings import Options, Settings, bounded
from metajax.networks import SemanticMap, from_linen, start_semantic_map
from metajax.types import Model, Params

__all__ = ["MapOptions", "linear_map_to", "mapped_items", "methods", "semantic_network"]

_TRAITS = 3


@dataclass(frozen=True, kw_only=True)
class MapOptions(Options):
    """Options of the semantic map."""

    width: int = bounded(16, least=1)
    """Width of the hidden layer."""
    rank: int = bounded(8, least=0)
    """Factors of the space, at least 1."""
    half_known: float = bounded(20.0, above=0)
    """Ratings at which an item counts half by its own embedding and half by the map."""


def semantic_network(settings: Settings, shapes: Shapes) -> Model:
    """Builds the map into the space of `rank` factors and the user's level."""
    return from_linen(
        SemanticMap(
            shapes.items, settings.options.rank + 1, _TRAITS, widths=(settings.options.width,)
        )
    )


def mapped_items(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts from factors, and a linear map to them in closed form.

    Of two domains the space is the source's. All items of the target are mapped into it, rated or
    not: nobody needs to be known in both.
    """
    if not settings.options.rank:
        raise ValueError("rank must be >= 1 for a map into a space of factors, got 0.")
    traits, domain = content_features(training), item_domains(training)
    log = select_rows(training.interactions, domain[training.interactions.item] == 0)
    source = training._replace(interactions=log)
    factors = fit_factors(log, rank=settings.options.rank, seed=settings.seed)
    embedding, bias = identities_of(factors)
    count = log.item_counts
    said = np.concatenate([traits, training.item_features], axis=1)
    weights, error = linear_map_to(embedding, said, count)
    if training.item_domain is None:
        expected, spread = with_attributes(factors, source)
        bias = identities_of(expected)[1]
    else:
        spread = np.zeros(len(domain))
        bias = np.where(domain == 0, bias, fit_content(training).expected)
    given = {
        "item_embedding": embedding,
        "known": count / (count + settings.options.half_known),
        "traits": traits,
        "item_bias": bias,
        "item_spread": spread,
        "weights": weights,
        "noise": factors.noise,
        "error": error,
    }
    return partial(start_semantic_map, **{name: jnp.asarray(v) for name, v in given.items()})


def linear_map_to(
    embedding: np.ndarray, said: np.ndarray, count: np.ndarray, *, ridge: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Regresses embeddings on what is said of items; items count by their ratings.

    Args:
        embedding: `[I, F]` of the items.
        said: `[I, V]` traits and attributes.
        count: `[I]` ratings of each item; of those without any nothing is looked at.
        ridge: Penalty of the weights, in items of the average count, > 0.

    Returns:
        `[V, F]` weights, and `[]` the mean squared distance that they leave.
    """
    share = count / np.sum(count)
    said, embedding = np.asarray(said, np.float64), np.asarray(embedding, np.float64)
    gram = said.T @ (share[:, None] * said)
    gram += ridge / np.count_nonzero(count) * np.eye(said.shape[1])
    weights = np.linalg.solve(gram, said.T @ (share[:, None] * embedding))
    rest = np.sum((embedding - said @ weights) ** 2, axis=1)
    return weights, np.maximum(share @ rest, 1e-6)


methods: tuple[Method, ...] = (
    Method(
        "semantic_map",
        by_one_pass(learners.semantic_map),
        semantic_network,
        mapped_items,
        settings={"weight_decay": 0.0, "updates": 100, "validate_every": 20},
        grid=({}, {"rate": 3e-4}),
        any_support=True,
        options=MapOptions,
    ),
)
