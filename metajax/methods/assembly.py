"""From settings to a learner, by its recipe: what is trained, on which tasks, started from what."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax.adaptation import matching, paths
from metajax.cross_domain.users import SOURCE
from metajax.data.dataset import Shapes, TrainingSet, shapes_of
from metajax.methods import objectives, recipe_of
from metajax.methods.sampling import SHOWN, Sampler
from metajax.methods.settings import READING, Settings
from metajax.training import Progress, begin
from metajax.types import Adaptation, Examples, MetaLearner, Params, Task

__all__ = [
    "adaptation_of",
    "first_progress",
    "judged_adaptation_of",
    "learner_of",
    "predicts_ratings",
    "progress_like",
    "sampler_of",
]


def learner_of(settings: Settings, shapes: Shapes) -> MetaLearner:
    """Builds the learner that the settings describe.

    Args:
        settings: What to build.
        shapes: Of the training set.

    Returns:
        The learner; the same one for settings that differ in data, fold or seed alone, so that
        what was compiled for one serves the others.
    """
    return _learner(_rule(settings), shapes)


def adaptation_of(settings: Settings, shapes: Shapes) -> Adaptation:
    """Returns how the learner of the settings adapts and predicts."""
    learner = learner_of(settings, shapes)
    return learner.adaptation


def judged_adaptation_of(settings: Settings, shapes: Shapes) -> Adaptation:
    """Returns how the learner of the settings adapts where any number of interactions is at hand.

    One that was trained on few is shown the first of them, in either domain: what its inner steps
    do to a hundred times as much evidence nobody has tuned.
    """
    adaptation = adaptation_of(settings, shapes)
    if recipe_of(settings.learner).any_support:
        return adaptation
    rows = range(max(settings.support, 1))
    if shapes.domains == 2:
        source, target = SHOWN
        rows = (*range(source), *range(SOURCE, SOURCE + target))
    return _few_shot(adaptation, tuple(rows))


def sampler_of(settings: Settings, shapes: Shapes) -> Sampler:
    """Returns where the training tasks of the settings come from; the same as `learner_of`."""
    return _sampler(_rule(settings), shapes)


def predicts_ratings(settings: Settings) -> bool:
    """Tells whether scores are ratings; if not, they only order the items."""
    return objectives[settings.objective].rating


def first_progress(settings: Settings, training: TrainingSet) -> Progress:
    """Starts from random parameters, and from closed forms where the recipe has them.

    Args:
        settings: What to train.
        training: What on; closed forms are fitted to it, so it holds training users alone.

    Returns:
        The progress before the first update.

    Raises:
        ValueError: If the learner needs two domains and there is one, or there are two and scores
            are no ratings, or as its `start`.
    """
    recipe = recipe_of(settings.learner)
    domains = shapes_of(training).domains
    # Before closed forms are fitted, which would speak of training sets and not of the learner.
    if recipe.two_domains and domains == 1:
        raise ValueError(
            f"learner {recipe.name!r} needs two domains, a source and a target, got one."
        )
    if domains == 2 and not predicts_ratings(settings):
        raise ValueError(
            "objective must be 'rating' where there are two domains, which are judged by ratings "
            f"alone, got {settings.objective!r}."
        )
    return _begin(settings, training, recipe.start(settings, training))


def progress_like(settings: Settings, training: TrainingSet) -> Progress:
    """Returns shapes and types of the progress, for reading a checkpoint."""
    return jax.eval_shape(lambda: _begin(settings, training, lambda params: params))


@functools.lru_cache(maxsize=64)
def _learner(rule: Settings, shapes: Shapes) -> MetaLearner:
    recipe = recipe_of(rule.learner)
    return recipe.learner(rule, recipe.network(rule, shapes))


@functools.lru_cache(maxsize=64)
def _few_shot(adaptation: Adaptation, rows: tuple[int, ...]) -> Adaptation:
    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Any:
        there = np.array([row for row in rows if row < len(support.mask)])
        return adaptation.adapt(params, jax.tree.map(lambda leaf: leaf[there], support), key)

    return adaptation._replace(adapt=adapt)


@functools.lru_cache(maxsize=64)
def _sampler(rule: Settings, shapes: Shapes) -> Sampler:
    recipe = recipe_of(rule.learner)
    return (recipe.sampler or objectives[rule.objective].sampler)(rule, shapes)


def _rule(settings: Settings) -> Settings:
    """Forgets what a compiled program must not depend on."""
    plain = Settings()
    kept = {name: getattr(plain, name) for name in ("data", "fold", "seed", *READING)}
    return replace(settings, **kept)


def _begin(
    settings: Settings, training: TrainingSet, start: Callable[[Params], Params]
) -> Progress:
    recipe = recipe_of(settings.learner)
    shapes = shapes_of(training)
    network = recipe.network(settings, shapes)
    key = jax.random.key(settings.seed)
    sampler = sampler_of(settings, shapes)
    tasks = jax.eval_shape(sampler.sample, sampler.table(training, seed=settings.seed), key)
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tasks)
    _check_patterns(settings, network.init, key, blank)
    started = network._replace(init=lambda key, inputs: start(network.init(key, inputs)))
    return begin(recipe.learner(settings, started).init(key, blank))


def _check_patterns(
    settings: Settings, init: Callable[..., Params], key: jax.Array, tasks: Task
) -> None:
    """Refuses patterns of one's own that fit no parameter of the network."""
    one = jax.tree.map(lambda leaf: leaf[0], tasks.support.inputs)
    known = paths(jax.eval_shape(init, key, one))
    for pattern in settings.adapts:
        if not any(map(matching(pattern), known)):
            raise ValueError(f"adapts must fit a parameter, got {pattern!r}; {', '.join(known)}.")
