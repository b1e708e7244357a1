"""Content adapter: transfer by tastes for content features, without common users.

Without common users the factors of one domain are uninformative of the other. But content features
of an item in its own domain (mean rating, popularity, attributes) mean the same in both, and so do
a user's tastes for them. `content_fold_in` is the closed form; the method `content_adapter` trains
an adapter of the features in the target.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp

from metajax import learners
from metajax.adaptation import ridge_head
from metajax.baselines.baseline import Baseline
from metajax.baselines.content import (
    Content,
    content_evidence,
    fit_content,
    item_domains,
    widths_of_content,
)
from metajax.cross_domain.domains import check_domains
from metajax.cross_domain.tasks import CrossDomainOptions
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Range, bounded
from metajax.methods import Method, Settings, by_one_pass
from metajax.networks import ContentNetwork, from_linen, initial_content
from metajax.types import Model, Params

__all__ = ["ContentAdapterOptions", "baselines", "content_fold_in", "methods"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContentAdapterOptions(CrossDomainOptions):
    """Options of the method `content_adapter`."""

    bottleneck: int = bounded(8, least=1, search=Range(2, 32, log=True))
    """Width of the adapter's bottleneck."""


def _fit(training: TrainingSet, **settings: Any) -> Content:
    check_domains(training)
    return fit_content(training, **settings)


content_fold_in = Baseline(
    "content_fold_in",
    "rating",
    _fit,
    ridge_head(content_evidence),
    grid=({}, {"taste": 0.1}, {"taste": 0.02}),
    two_domains=True,
)

baselines: tuple[Baseline, ...] = (content_fold_in,)


def _network(settings: Settings, shapes: Shapes) -> Model:
    traits, width = widths_of_content(shapes.item_width)
    return from_linen(ContentNetwork(shapes.items, traits, width, settings.options.bottleneck))


def _initial(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    del settings
    domain = jnp.asarray(item_domains(training), jnp.float32)
    return partial(initial_content, item_domain=domain, **fit_content(training)._asdict())


methods: tuple[Method, ...] = (
    Method(
        "content_adapter",
        # Trained are the adapter, the biases, the map of user attributes and the noise.
        by_one_pass(learners.bayesian_ridge, "encoder", "traits", "item_domain"),
        _network,
        _initial,
        options=ContentAdapterOptions,
        settings={"weight_decay": 0.0, "updates": 200},
        grid=({}, {"rate": 3e-3}),
        any_support=True,
        needs_ratings=True,
        two_domains=True,
    ),
)
