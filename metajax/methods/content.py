"""Recipes for domains without common users: what carries over is what is said of items."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
import numpy as np
import optax

from metajax import learners
from metajax.adaptation import matching
from metajax.baselines.content import content_groups, fit_content, item_domains, widths_of_content
from metajax.cross_domain.tasks import cross_table
from metajax.data.dataset import Shapes, TrainingSet
from metajax.data.interactions import select_rows
from metajax.data.sampler import TaskTable
from metajax.losses import shrunk_squared_error
from metajax.methods.method import Method
from metajax.methods.parts import adapted_parameters, by_one_pass, objectives, outer_optimizer
from metajax.methods.sampling import Sampler, cross_tasks
from metajax.methods.settings import Settings, TwoTowerOptions
from metajax.networks import (
    AttributePrototypes,
    ContentNetwork,
    RatingNetwork,
    from_linen,
    initial_identity,
    start_content,
)
from metajax.types import MetaLearner, Model, Params

__all__ = [
    "content_network",
    "content_start",
    "meta_transfer",
    "methods",
    "prototypes_on_content",
    "rating_network_on_content",
    "source_tasks",
    "start_on_content",
    "start_prototypes",
]

# As many ratings without an error are added to those of a support.
_PRIOR = 30.0


def content_network(settings: Settings, shapes: Shapes) -> Model:
    """Builds the encoder of items and its adapter, a quarter of `embedding` wide."""
    traits, width = widths_of_content(shapes.item_width)
    return from_linen(
        ContentNetwork(
            shapes.items, traits, width, bottleneck=max(settings.options.embedding // 4, 1)
        )
    )


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


def rating_network_on_content(settings: Settings, shapes: Shapes) -> Model:
    """Builds the two towers, whose identities are what is said of items."""
    _, width = widths_of_content(shapes.item_width)
    return from_linen(
        RatingNetwork(
            user_widths=(settings.options.width, settings.options.embedding),
            item_widths=(settings.options.width, settings.options.embedding),
            predictor_widths=(settings.options.width,),
            items=shapes.items,
            identity_width=width,
            direct=True,
        )
    )


def start_on_content(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts identities where the closed form has its directions, and biases where it has them."""
    del settings
    fitted = fit_content(training)
    said = np.concatenate([fitted.traits, training.item_features], axis=1)
    embedding = jnp.asarray(said @ np.asarray(fitted.encoder))
    return partial(initial_identity, embedding=embedding, bias=fitted.expected)


def source_tasks(settings: Settings, shapes: Shapes) -> Sampler:
    """Samples users of the source alone: one half of its items is shown, the other asked.

    The halves are those of `content_groups`, as unlike as two domains, or where items are all
    alike a coin's.
    """
    return cross_tasks(settings, shapes)._replace(table=_halves_of_source)


def _halves_of_source(training: TrainingSet, *, seed: int = 0) -> tuple[TaskTable, TaskTable]:
    source = item_domains(training) == 0
    half = np.where(source, content_groups(training), 0)
    log = select_rows(training.interactions, source[training.interactions.item])
    if not half[log.item].any():
        half = np.random.default_rng(seed).permutation(np.arange(len(half)) % 2)
    halves = training._replace(interactions=log, item_domain=half.astype(np.int32))
    return cross_table(halves, seed=seed)


def meta_transfer(settings: Settings, network: Model) -> MetaLearner:
    """Is MAML on tasks of the source; a user of the target is adapted to in the same way.

    What adapts are tastes for what is said of items of either domain. Identities and biases stay
    as they are: were those of the source to move, those of the target would not follow.

    References:
        Finn, Abbeel and Levine, Model-Agnostic Meta-Learning, ICML 2017. Tasks of one domain for
        another as in Zhu et al., Transfer-Meta Framework for Cross-domain Recommendation to
        Cold-Start Users, SIGIR 2021. Differs: nobody has to be known in both domains, for tasks
        lead from one half of the source to the other, and no map of users is learned.
    """
    objective = objectives[settings.objective]
    outer = learners.fixed(outer_optimizer(settings), "item_embedding", "item_bias")
    return learners.maml(
        network,
        objective.loss,
        inner=optax.sgd(settings.options.inner_rate),
        outer=outer,
        steps=settings.options.steps,
        adapts=matching(*adapted_parameters(settings)),
        inner_loss=partial(shrunk_squared_error, prior=_PRIOR),
        microbatch=settings.microbatch,
    )


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
    Method(
        "content_adapter",
        # What is trained are the adapter and what is expected.
        by_one_pass(learners.bayesian_ridge, "encoder", "traits", "item_domain"),
        content_network,
        content_start,
        settings={"weight_decay": 0.0, "updates": 200},
        grid=({}, {"rate": 3e-3}),
        any_support=True,
        two_domains=True,
        options=TwoTowerOptions,
    ),
    Method(
        "meta_transfer",
        meta_transfer,
        rating_network_on_content,
        start_on_content,
        source_tasks,
        settings={
            "steps": 10,
            "inner_rate": 2.0,
            "width": 16,
            "embedding": 8,
            "updates": 200,
        },
        grid=({}, {"inner_rate": 1.0}),
        any_support=True,
        two_domains=True,
        options=TwoTowerOptions,
    ),
)
"""What items are like: in one domain or in two, then what needs two."""
