"""Attribute prototypes: cosine attention to learned prototypes in the space of content features."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

from metajax.adaptation import cosine_prototypes
from metajax.baselines.content import fit_content, item_domains, widths_of_content
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import bounded
from metajax.learners.outer import meta_learner
from metajax.methods.method import Method
from metajax.methods.objective import by_one_pass
from metajax.methods.settings import Options, Settings
from metajax.networks import ContentNetwork, from_linen, initial_content
from metajax.types import (
    AmongPrototypes,
    Inputs,
    Loss,
    MetaLearner,
    Model,
    Params,
)

__all__ = [
    "AttributePrototypes",
    "PrototypeOptions",
    "attribute_prototypes",
    "content_values",
    "methods",
]


class AttributePrototypes(nn.Module):
    """Embeds items by a content network, and predicts users' residuals at prototypes.

    The residual of a user at a prototype is linear in the user's attributes, initially 0.

    Attributes:
        content: Maps inputs to `Evidence`: its design is the embedding of the item.
        width: D, its number of directions.
        prototypes: M.
    """

    content: nn.Module
    width: int
    prototypes: int = 16

    @nn.compact
    def __call__(self, inputs: Inputs) -> AmongPrototypes:
        """Embeds N interactions."""
        zeros = nn.initializers.zeros_init()
        found = self.content(inputs)
        value = jnp.broadcast_to(
            self.param("value", zeros, (self.prototypes,)), (len(inputs.item), self.prototypes)
        )
        if inputs.user_features.shape[1]:
            taste = nn.Dense(self.prototypes, use_bias=False, kernel_init=zeros, name="user_value")
            value += taste(inputs.user_features)
        # Initially the prototypes weigh as much as 16 examples, and the level's prior as 5.
        each = nn.initializers.constant(jnp.log(16.0 / self.prototypes))
        return AmongPrototypes(
            found.design,
            found.expected,
            self.param("prototype", nn.initializers.normal(1.0), (self.prototypes, self.width)),
            self.param("log_weight", each, (self.prototypes,)),
            value,
            jnp.exp(self.param("log_sharpness", nn.initializers.constant(jnp.log(8.0)), ())),
            jnp.exp(self.param("log_level_count", nn.initializers.constant(jnp.log(5.0)), ())),
        )


def attribute_prototypes(
    model: Model,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Attribute prototypes: a candidate is scored by cosine attention to ratings and prototypes.

    Args:
        model: The network; its `apply` compares inputs with prototypes, for instance a
            `AttributePrototypes`.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        outer: Optax optimizer of the parameters.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.
    """
    return meta_learner(model, cosine_prototypes(model.apply), loss, outer, microbatch=microbatch)


@dataclass(frozen=True, kw_only=True)
class PrototypeOptions(Options):
    """Options of attribute prototypes."""

    embedding: int = bounded(32, least=1)
    """Number of prototypes; the adapter's bottleneck is a quarter of it."""


def content_values(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Initialises a `ContentNetwork` by the closed form, which it then predicts."""
    del settings
    fitted = fit_content(training)
    domain = jnp.asarray(item_domains(training), jnp.float32)
    return partial(initial_content, item_domain=domain, **fitted._asdict())


def _network(settings: Settings, shapes: Shapes) -> Model:
    features, width = widths_of_content(shapes.item_width)
    prototypes = settings.options.embedding
    content = ContentNetwork(shapes.items, features, width, bottleneck=max(prototypes // 4, 1))
    return from_linen(AttributePrototypes(content, width, prototypes=prototypes))


def _initial(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Initialises prototypes at items, drawn by how often they were rated."""
    content_of, log = content_values(settings, training), training.interactions
    rng = np.random.default_rng(settings.seed)

    def initial(params: Params) -> Params:
        content = content_of(params["content"])
        item = rng.choice(log.item, len(params["prototype"]))
        features = np.concatenate([content["traits"][item], training.item_features[item]], axis=1)
        place = jnp.asarray(features @ np.asarray(content["encoder"]["kernel"]))
        return {**params, "content": content, "prototype": place}

    return initial


methods: tuple[Method, ...] = (
    Method(
        "attribute_prototypes",
        learner=by_one_pass(attribute_prototypes, "content/traits", "content/item_domain"),
        network=_network,
        initial=_initial,
        options=PrototypeOptions,
        settings={"weight_decay": 0.0, "updates": 200},
        grid=({}, {"rate": 3e-4}),
        any_support=True,
        needs_ratings=True,
    ),
)
