"""Meta-transfer: MAML across the halves of the source, for users of the target."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
import numpy as np
import optax

from metajax import learners
from metajax.adaptation import matching
from metajax.baselines.content import content_groups, fit_content, item_domains, widths_of_content
from metajax.cross_domain.domains import SOURCE
from metajax.cross_domain.tasks import CrossDomainOptions, cross_table, cross_tasks
from metajax.data.dataset import Shapes, TrainingSet
from metajax.data.interactions import select_rows
from metajax.data.sampler import TaskTable
from metajax.fields import Range, bounded
from metajax.losses import shrunk_squared_error
from metajax.methods import Method, Settings, objectives, outer_optimizer
from metajax.methods.tasks import Sampler
from metajax.networks import RatingNetwork, from_linen, initial_identity
from metajax.types import MetaLearner, Model, Params

__all__ = ["MetaTransferOptions", "methods"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaTransferOptions(CrossDomainOptions):
    """Options of the method `meta_transfer`."""

    steps: int = bounded(10, least=1, search=Range(1, 20))
    """Inner steps on a user's support."""
    inner_rate: float = bounded(2.0, above=0, search=Range(0.2, 20.0, log=True))
    """Learning rate of the inner steps."""
    prior_ratings: float = bounded(30.0, least=0, search=Range(3.0, 300.0, log=True))
    """Ratings without an error that are added to the support."""
    adapts: tuple[str, ...] = ("direct/*",)
    """Patterns of the parameters that adapt to a user; the others are shared."""
    width: int = bounded(16, least=1)
    """Width of the hidden layers."""
    embedding: int = bounded(8, least=1)
    """Width of the user and item embeddings."""


def _network(settings: Settings, shapes: Shapes) -> Model:
    """Builds two towers whose item identities are content features."""
    _, width = widths_of_content(shapes.item_width)
    options = settings.options
    return from_linen(
        RatingNetwork(
            user_widths=(options.width, options.embedding),
            item_widths=(options.width, options.embedding),
            predictor_widths=(options.width,),
            items=shapes.items,
            identity_width=width,
            direct=True,
        )
    )


def _initial(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Initialises identities and biases by the content model in closed form."""
    del settings
    fitted = fit_content(training)
    features = np.concatenate([fitted.traits, training.item_features], axis=1)
    embedding = jnp.asarray(features @ np.asarray(fitted.encoder))
    return partial(initial_identity, embedding=embedding, bias=fitted.expected)


def _sampler(settings: Settings, shapes: Shapes) -> Sampler:
    """Samples users of the source, with one half of its items in supports and one in queries.

    The halves are those of `content_groups`, as different as two domains, or random where all
    items have the same features.
    """
    return cross_tasks(settings, shapes)._replace(table=_halves_of_source)


def _halves_of_source(training: TrainingSet, *, seed: int = 0) -> tuple[TaskTable, TaskTable]:
    in_source = item_domains(training) == SOURCE
    half = np.where(in_source, content_groups(training), 0)
    log = select_rows(training.interactions, in_source[training.interactions.item])
    if not half[log.item].any():
        half = np.random.default_rng(seed).permutation(np.arange(len(half)) % 2)
    halves = training._replace(interactions=log, item_domain=half.astype(np.int32))
    return cross_table(halves, seed=seed)


def _learner(settings: Settings, network: Model) -> MetaLearner:
    """MAML on tasks of the source.

    Tastes for content features of either domain adapt. Identities and biases are fixed: training
    would move those of the source, and those of the target would not follow.

    References:
        Finn, Abbeel and Levine, Model-Agnostic Meta-Learning, ICML 2017. Tasks of one domain for
        another as in Zhu et al., Transfer-Meta Framework for Cross-domain Recommendation to
        Cold-Start Users, SIGIR 2021. Differs: no common users are needed, for tasks lead from one
        half of the source to the other, and no map of users is learned.
    """
    options = settings.options
    return learners.maml(
        network,
        objectives[settings.objective].loss,
        inner=optax.sgd(options.inner_rate),
        outer=learners.fixed(outer_optimizer(settings), "item_embedding", "item_bias"),
        steps=options.steps,
        adapts=matching(*options.adapts),
        inner_loss=partial(shrunk_squared_error, prior=options.prior_ratings),
        microbatch=settings.microbatch,
    )


methods: tuple[Method, ...] = (
    Method(
        "meta_transfer",
        _learner,
        _network,
        _initial,
        _sampler,
        options=MetaTransferOptions,
        settings={"updates": 200},
        grid=({}, {"inner_rate": 1.0}),
        any_support=True,
        needs_ratings=True,
        two_domains=True,
    ),
)
