"""Semantic map: content features of items mapped into the space of pretrained embeddings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.adaptation import ridge_head
from metajax.baselines.attribute_factors import with_attributes
from metajax.baselines.content import TRAITS, content_features, fit_content, item_domains
from metajax.baselines.factors import fit_factors, identities_of
from metajax.data.dataset import Shapes, TrainingSet
from metajax.data.interactions import select_rows
from metajax.fields import Range, bounded
from metajax.learners.frozen import fixed
from metajax.learners.outer import learner_with
from metajax.losses import blanked, masked_mean, with_mask
from metajax.methods.method import Method
from metajax.methods.objective import by_one_pass
from metajax.methods.settings import Options, Settings
from metajax.networks import from_linen
from metajax.networks.encoder import Tower
from metajax.networks.meta_params import with_initial_values
from metajax.types import Evidence, Inputs, Loss, MetaLearner, Model, Params, Task

__all__ = [
    "MapOptions",
    "Mapped",
    "SemanticMap",
    "initial_semantic_map",
    "linear_map_to",
    "mapped_items",
    "methods",
    "semantic_map",
    "semantic_network",
]


class Mapped(NamedTuple):
    """Evidence of N interactions, by embeddings of their items and by attributes alone."""

    evidence: Evidence
    """By the item's own embedding, mixed with the map for few ratings."""
    mapped: Evidence
    """By the map, as for an unrated item."""
    distance: jax.Array
    """`[N]` squared distance of the two, weighted by how well the item is known."""


class SemanticMap(nn.Module):
    """Maps traits and attributes of items into the space of pretrained embeddings.

    The map is linear, plus the output of hidden layers, which starts at 0. The expected label is
    the item's bias plus the product of the embedding with a user's expected coefficients by their
    attributes; the noise of mapped items includes the error of the map.

    Parameters are named `map`, `hidden`, `correction`, `user_map`, `item_bias`, `log_noise`,
    `log_error` and, from closed forms and not trained, `item_embedding`, `known`, `traits` and
    `item_spread`.

    Attributes:
        items: Number of items.
        width: F, of the embeddings.
        traits: V, number of an item's features in addition to its attributes.
        widths: Widths of the hidden layers; none means a linear map.
    """

    items: int
    width: int
    traits: int
    widths: Sequence[int] = ()

    @nn.compact
    def __call__(self, inputs: Inputs) -> Mapped:
        """Returns the evidence of N interactions."""
        zeros = nn.initializers.zeros_init()

        def given(name: str, *shape: int) -> jax.Array:
            table = self.param(name, zeros, (self.items, *shape))
            return jax.lax.stop_gradient(table)[inputs.item]

        own, known = given("item_embedding", self.width), given("known")
        features = jnp.concatenate([given("traits", self.traits), inputs.item_features], axis=1)
        mapped = nn.Dense(self.width, use_bias=False, name="map")(features)
        if self.widths:
            hidden = nn.relu(Tower(self.widths, name="hidden")(features))
            mapped += nn.Dense(self.width, kernel_init=zeros, name="correction")(hidden)
        bias = self.param("item_bias", zeros, (self.items,))[inputs.item]
        noise = jnp.exp(self.param("log_noise", zeros, ())) + given("item_spread") ** 2
        error = jnp.exp(self.param("log_error", zeros, ()))
        place = jnp.zeros((len(bias), self.width))
        if inputs.user_features.shape[1]:
            user_map = nn.Dense(self.width, use_bias=False, kernel_init=zeros, name="user_map")
            place = user_map(inputs.user_features)

        def described(design: jax.Array, known: jax.Array) -> Evidence:
            usual = jnp.sum(place * design, axis=1)
            return Evidence(bias + usual, design, noise + (1 - known) * error)

        mixed = known[:, None] * own + (1 - known)[:, None] * mapped
        distance = known * jnp.sum(jnp.square(own - mapped), axis=1)
        return Mapped(described(mixed, known), described(mapped, jnp.zeros_like(known)), distance)


def initial_semantic_map(
    params: Params,
    *,
    item_embedding: jax.Array,
    known: jax.Array,
    traits: jax.Array,
    item_bias: jax.Array,
    item_spread: jax.Array,
    weights: jax.Array,
    noise: jax.Array,
    error: jax.Array,
) -> Params:
    """Initialises by pretrained embeddings and a linear map to them.

    Args:
        params: Parameters of a `SemanticMap`.
        item_embedding: `[I, F]` for users with a standard normal prior.
        known: `[I]` weight of an item's own embedding, in [0, 1].
        traits: `[I, V]` features of items in addition to their attributes.
        item_bias: `[I]` ratings by a user whose latents are 0.
        item_spread: `[I]` standard deviation of the biases.
        weights: `[V + Di, F]` from traits and attributes to embeddings.
        noise: `[]` variance of a rating, > 0.
        error: `[]` expected squared distance of the map, > 0.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a shape does not fit.
    """
    given = {
        "item_embedding": item_embedding,
        "known": known,
        "traits": traits,
        "item_bias": item_bias,
        "item_spread": item_spread,
        "map": {"kernel": weights},
        "log_noise": jnp.log(noise),
        "log_error": jnp.log(error),
    }
    return with_initial_values(params, given)


_FIXED = ("item_embedding", "item_spread", "known", "traits")


def semantic_map(
    model: Model,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    closeness: float = 0.1,
    microbatch: int | None = None,
) -> MetaLearner:
    """Semantic map: learns a map from item attributes to pretrained embeddings.

    A user is the posterior given their ratings, as in `adaptation.ridge_head`. Every item of a
    query counts as unrated, and its map is regularised towards its embedding:

        loss(scores by the map) + closeness * mean squared distance to the items' embeddings .

    A cold user is the prior and a cold item its map: both are scored without any history.

    Args:
        model: The network; its `apply` returns `Mapped`, for instance of a
            `SemanticMap`.
        loss: `loss(scores, labels, *, where) -> []`, of the query, or elementwise as in
            `losses.with_mask`.
        outer: Optax optimizer of the parameters; those of closed forms are fixed.
        closeness: Weight of the distance, >= 0.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner with `predict_variance`.

    Raises:
        ValueError: If `closeness` < 0.

    References:
        Socher, Ganjoo, Manning and Ng, Zero-Shot Learning Through Cross-Modal Transfer, NeurIPS
        2013, equation 1, the squared distance to the embedding. Frome et al., DeViSE: A Deep
        Visual-Semantic Embedding Model, NeurIPS 2013, which ranks by products in that space.
        Differs: embeddings are factors of ratings, and products with a user's are the scores.
    """
    if not closeness >= 0:
        raise ValueError(f"closeness must be >= 0, got {closeness}.")

    def known(params: Params, inputs: Any) -> Evidence:
        return model.apply(params, inputs).evidence

    masked_loss, adaptation = with_mask(loss), ridge_head(known)

    def task_loss(params: Params, task: Task, key: jax.Array | None, step: jax.Array) -> jax.Array:
        del step
        adapted = adaptation.adapt(params, task.support, key)
        query = blanked(task.query)
        found = model.apply(params, query.inputs)
        scores = found.mapped.expected + found.mapped.design @ adapted.mean
        near = masked_mean(found.distance, query.mask)
        return masked_loss(scores, query.labels, where=query.mask) + closeness * near

    return learner_with(
        {0: task_loss}, model, adaptation, fixed(outer, *_FIXED), microbatch=microbatch
    )


@dataclass(frozen=True, kw_only=True)
class MapOptions(Options):
    """Options of the semantic map."""

    width: int = bounded(16, least=1)
    """Width of the hidden layer."""
    rank: int = bounded(8, least=0, search=Range(2, 16))
    """Factors of the space, at least 1."""
    half_known: float = bounded(20.0, above=0, search=Range(2.0, 200.0, log=True))
    """Ratings at which an item counts half by its own embedding and half by the map."""


def semantic_network(settings: Settings, shapes: Shapes) -> Model:
    """Builds the map into the space of `rank` factors and the user's level."""
    return from_linen(
        SemanticMap(
            shapes.items, settings.options.rank + 1, TRAITS, widths=(settings.options.width,)
        )
    )


def mapped_items(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Initialises by factors, and a linear map to them in closed form.

    Of two domains the space is the source's. All items of the target are mapped into it, rated or
    not, so that no common users are needed.
    """
    if not settings.options.rank:
        raise ValueError("rank must be >= 1 for a map into a space of factors, got 0.")
    traits, domain = content_features(training), item_domains(training)
    log = select_rows(training.interactions, domain[training.interactions.item] == 0)
    source = training._replace(interactions=log)
    factors = fit_factors(log, rank=settings.options.rank, seed=settings.seed)
    embedding, bias = identities_of(factors)
    count = log.item_counts
    features = np.concatenate([traits, training.item_features], axis=1)
    weights, error = linear_map_to(embedding, features, count)
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
    return partial(initial_semantic_map, **{name: jnp.asarray(v) for name, v in given.items()})


def linear_map_to(
    embedding: np.ndarray, features: np.ndarray, count: np.ndarray, *, ridge: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Regresses embeddings on content features of items, weighted by numbers of ratings.

    Args:
        embedding: `[I, F]` of the items.
        features: `[I, V]` traits and attributes.
        count: `[I]` number of ratings of each item; items without ratings are ignored.
        ridge: Penalty of the weights, in items of the average count, > 0.

    Returns:
        `[V, F]` weights, and `[]` the mean squared distance that they leave.
    """
    share = count / np.sum(count)
    features, embedding = np.asarray(features, np.float64), np.asarray(embedding, np.float64)
    gram = features.T @ (share[:, None] * features)
    gram += ridge / np.count_nonzero(count) * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, features.T @ (share[:, None] * embedding))
    rest = np.sum((embedding - features @ weights) ** 2, axis=1)
    return weights, np.maximum(share @ rest, 1e-6)


methods: tuple[Method, ...] = (
    Method(
        "semantic_map",
        by_one_pass(semantic_map),
        semantic_network,
        mapped_items,
        settings={"weight_decay": 0.0, "updates": 100, "validate_every": 20},
        grid=({}, {"rate": 3e-4}),
        any_support=True,
        needs_ratings=True,
        options=MapOptions,
    ),
)
