"""Attribute prototypes: users by their nearness to learned points among content features."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
import numpy as np

from metajax import learners
from metajax.baselines.content import fit_content, item_domains, widths_of_content
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.method import Method
from metajax.methods.parts import by_one_pass
from metajax.methods.settings import Options, Settings, bounded
from metajax.networks import AttributePrototypes, ContentNetwork, from_linen, start_content
from metajax.types import Model, Params

__all__ = ["PrototypeOptions", "content_values", "methods"]


@dataclass(frozen=True, kw_only=True)
class PrototypeOptions(Options):
    """Options of attribute prototypes."""

    embedding: int = bounded(32, least=1)
    """Number of prototypes; the adapter's bottleneck is a quarter of it."""


def content_values(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Initialises a `ContentNetwork` by the closed form, whose predictions are its first."""
    del settings
    fitted = fit_content(training)
    domain = jnp.asarray(item_domains(training), jnp.float32)
    return partial(start_content, item_domain=domain, **fitted._asdict())


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
        learner=by_one_pass(learners.attribute_prototypes, "content/traits", "content/item_domain"),
        network=_network,
        initial=_initial,
        options=PrototypeOptions,
        settings={"weight_decay": 0.0, "updates": 200},
        grid=({}, {"rate": 3e-4}),
        any_support=True,
    ),
)
