"""From settings to a learner: which network, which recipe, which sampler, started from what."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax import learners, losses
from metajax.adaptation import matching, paths
from metajax.base import Adaptation, MetaLearner, Params, Task
from metajax.baselines.factors import Factors, fit_factors
from metajax.data.dataset import TrainingSet
from metajax.data.sampler import TaskTable, sample_tasks, task_table
from metajax.models import RatingNetwork, from_linen, start_bias, start_identity
from metajax.settings import Settings
from metajax.training import Progress, begin

__all__ = ["adaptation_of", "first_progress", "learner_of", "progress_like", "sampler_of"]


def learner_of(
    settings: Settings, items: int, *, start: Callable[[Params], Params] = lambda params: params
) -> MetaLearner:
    """Builds the learner that the settings describe.

    Args:
        settings: What to build.
        items: I, the size of the catalogue.
        start: Changes the network's random first parameters.

    Returns:
        The learner.
    """
    width, embedding = settings.width, settings.embedding
    network = from_linen(
        RatingNetwork(
            user_widths=(width, width, embedding),
            item_widths=(width, embedding),
            predictor_widths=(width, width),
            items=items if settings.rank else 0,
            identity_width=settings.rank + 1,
            direct=settings.rank > 0,
        )
    )
    model = network._replace(init=lambda key, inputs: start(network.init(key, inputs)))
    # Training makes whole dispatches.
    updates = -(-settings.updates // settings.per_dispatch) * settings.per_dispatch
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, settings.rate, min(50, updates // 10), updates
    )
    outer = optax.chain(
        optax.clip_by_global_norm(settings.clip),
        optax.adamw(schedule, weight_decay=settings.weight_decay),
    )
    if settings.learner == "supervised":
        return learners.supervised(
            model, losses.squared_error, outer=outer, microbatch=settings.microbatch
        )
    recipe = {"maml": learners.maml, "fomaml": learners.fomaml}[settings.learner]
    return recipe(
        model,
        losses.squared_error,
        inner=optax.sgd(settings.inner_rate),
        outer=outer,
        steps=settings.steps,
        adapts=matching(*_adapts(settings)),
        # Summed, as a likelihood is: ten ratings move a user further than one.
        inner_loss=losses.total_squared_error,
        microbatch=settings.microbatch,
    )


def adaptation_of(settings: Settings, items: int) -> Adaptation:
    """Returns how the learner of the settings adapts and predicts."""
    learner = learner_of(settings, items)
    return Adaptation(learner.adapt, learner.predict)


def sampler_of(settings: Settings) -> Callable[[TaskTable, jax.Array], Task]:
    """Returns the `sample(table, key) -> tasks` of the settings."""
    return partial(
        sample_tasks,
        tasks=settings.tasks,
        support=settings.support,
        query=settings.query,
        order=settings.order,
    )


def first_progress(settings: Settings, training: TrainingSet) -> Progress:
    """Starts from random towers, and from pretrained identities where the settings have them.

    Args:
        settings: What to train.
        training: What on; factors are fitted to it, so it holds training users alone.

    Returns:
        The progress before the first update.
    """
    if settings.rank:
        factors = fit_factors(training.interactions, rank=settings.rank, seed=settings.seed)
        embedding, bias = map(jnp.asarray, _identities(factors))
        start = partial(start_identity, embedding=embedding, bias=bias)
    else:
        start = partial(start_bias, bias=float(np.mean(training.interactions.rating)))
    return _begin(settings, training, start)


def progress_like(settings: Settings, training: TrainingSet) -> Progress:
    """Returns shapes and types of the progress, for reading a checkpoint."""
    return jax.eval_shape(lambda: _begin(settings, training, lambda params: params))


def _begin(
    settings: Settings, training: TrainingSet, start: Callable[[Params], Params]
) -> Progress:
    learner = learner_of(settings, len(training.item_features), start=start)
    key = jax.random.key(settings.seed)
    tasks = jax.eval_shape(sampler_of(settings), task_table(training), key)
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tasks)
    state = learner.init(key, blank)
    known = paths(state.params)
    for pattern in _adapts(settings):
        if not any(map(matching(pattern), known)):
            raise ValueError(f"adapts must fit a parameter, got {pattern!r}; {', '.join(known)}.")
    return begin(state)


def _adapts(settings: Settings) -> tuple[str, ...]:
    return settings.adapts or (("direct/*",) if settings.rank else ("predictor/*",))


def _identities(factors: Factors) -> tuple[np.ndarray, np.ndarray]:
    """Turns factors into identities `[I, d + 1]` and biases `[I]` of a network.

    With the prior N(m, L L') of a user's latents, the score mean + b + [1, v] . w is
    (mean + b + [1, v] . m) + ([1, v] L) . z with z standard normal. In these coordinates a user
    starts at z = 0 and gradient steps from there shrink towards the prior in every direction
    alike, as the posterior mean does.
    """
    ones = np.ones((len(factors.item_bias), 1), np.float32)
    design = np.concatenate([ones, factors.item_factors], axis=1)  # [I, d + 1]
    root = np.linalg.cholesky(factors.prior_covariance)
    bias = factors.mean + factors.item_bias + design @ factors.prior_mean
    return design @ root, np.asarray(bias)
