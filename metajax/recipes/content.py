"""Recipes for domains without common users: what carries over is what is said of items."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp

from metajax import learners
from metajax.base import MetaLearner, Model, Params
from metajax.baselines.content import fit_content, widths_of_content
from metajax.baselines.content_traits import item_domains
from metajax.data.dataset import Shapes, TrainingSet
from metajax.models import ContentNetwork, from_linen, start_content
from metajax.recipes.parts import objectives, outer_optimizer
from metajax.settings import Settings

__all__ = ["content_adapter", "content_network", "content_start"]


def content_network(settings: Settings, shapes: Shapes) -> Model:
    """Builds the encoder of items and its adapter, a quarter of `embedding` wide."""
    traits, width = widths_of_content(shapes.item_width)
    return from_linen(
        ContentNetwork(shapes.items, traits, width, bottleneck=max(settings.embedding // 4, 1))
    )


def content_start(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts from the closed form, whose predictions are the first."""
    del settings
    fitted = fit_content(training)
    domain = jnp.asarray(item_domains(training), jnp.float32)
    return partial(start_content, item_domain=domain, **fitted._asdict())


def content_adapter(settings: Settings, network: Model) -> MetaLearner:
    """Trains the adapter and what is expected; the encoder stays as the source has it, too."""
    outer = learners.fixed(outer_optimizer(settings), "encoder", "traits", "item_domain")
    return learners.bayesian_ridge(
        network, objectives[settings.objective].loss, outer=outer, microbatch=settings.microbatch
    )
