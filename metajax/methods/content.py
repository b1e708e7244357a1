"""Recipes for domains without common users: what carries over is what is said of items."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
import numpy as np

from metajax import learners
from metajax.baselines.content import fit_content, item_domains, widths_of_content
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.method import Method
from metajax.methods.parts import by_one_pass
from metajax.methods.settings import Settings, TwoTowerOptions
from metajax.networks import (
    AttributePrototypes,
    ContentNetwork,
    from_linen,
    start_content,
)
from metajax.types import Model, Params

__all__ = [
    "content_start",
    "methods",
    "prototypes_on_content",
    "start_prototypes",
]


def content_start(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts from the closed form, whose predictions are the first."""
    del settings
    fitted = fit_content(training)
    domain = jnp.asarray(item_domains(training), jnp.float32)
    return partial(start_content, item_domain=domain, **fitted._asdict())


def prototypes_on_content(settings: Settings, shapes: Shapes) -> Model:
    """Builds prototypes in the space of what is said of items, as many as `embedding`."""
    traits, width = widths_of_content(shapes.item_width)
    bottleneck = max(settings.options.embedding // 4, 1)
    content = ContentNetwork(shapes.items, traits, width, bottleneck=bottleneck)
    return from_linen(AttributePrototypes(content, width, prototypes=settings.options.embedding))


def start_prototypes(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts prototypes at items, drawn by how often they were rated."""
    begin = content_start(settings, training)
    log = training.interactions
    rng = np.random.default_rng(settings.seed)

    def start(params: Params) -> Params:
        content = begin(params["content"])
        item = rng.choice(log.item, len(params["prototype"]))
        said = np.concatenate([content["traits"][item], training.item_features[item]], axis=1)
        place = jnp.asarray(said @ np.asarray(content["encoder"]["kernel"]))
        return {**params, "content": content, "prototype": place}

    return start


methods: tuple[Method, ...] = (
    Method(
        "attribute_prototypes",
        by_one_pass(learners.attribute_prototypes, "content/traits", "content/item_domain"),
        prototypes_on_content,
        start_prototypes,
        settings={"weight_decay": 0.0, "updates": 200},
        grid=({}, {"rate": 3e-4}),
        any_support=True,
        options=TwoTowerOptions,
    ),
)
