"""Distillation: a student network trained by ratings and by a content model of both domains."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.adaptation import amortised, ridge_head
from metajax.baselines.content import Content, content_evidence, fit_content, widths_of_content
from metajax.cross_domain.tasks import (
    CrossDomainOptions,
    cross_table,
    sample_cross_tasks,
    source_table,
)
from metajax.data.dataset import Shapes, TrainingSet
from metajax.data.sampler import TaskTable, distinct, inputs_of, of_member, rows_of_user
from metajax.fields import Range, bounded
from metajax.learners import fixed, learner_with
from metajax.losses import blanked, with_mask
from metajax.methods import Method, Settings, objectives, outer_optimizer
from metajax.methods.tasks import Sampler
from metajax.networks import from_support_module
from metajax.networks.meta_params import with_initial_values
from metajax.types import (
    Adaptation,
    Examples,
    Inputs,
    Loss,
    MemberInputs,
    MetaLearner,
    Params,
    SupportModel,
    Task,
)

__all__ = [
    "DistilledOptions",
    "StudentNetwork",
    "distilled",
    "initial_student",
    "methods",
    "sample_unrated_tasks",
    "unrated_table",
]

UnratedTable = tuple[tuple[TaskTable, TaskTable], TaskTable]
"""Both domains, as from `cross_table`, and the source, as from `source_table`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistilledOptions(CrossDomainOptions):
    """Options of the method `distilled`."""

    width: int = bounded(16, least=1)
    """Width of the student's hidden layer."""
    teacher_weight: float = bounded(0.5, least=0, most=1, search=Range(0.0, 1.0))
    """Weight of the teacher's predictions; ratings have the rest."""


class StudentNetwork(nn.Module):
    """Encoder of a support by one weighted sum, and scores by inner products.

    With item embeddings v, residuals r of the n ratings and a learned spread s, the user's latent
    vector is

        z_k = sum_j r_j v_jk / (noise + n s_k) ,

    the posterior mean where directions are uncorrelated over n items of the mean spread: the
    teacher inverts a matrix for each user, the student does not. A hidden layer corrects it; its
    output is initially 0, and 0 for a user without ratings.

    Attributes:
        items: Number of items.
        width: L, width of the embeddings.
        hidden: Width of the hidden layer.
    """

    items: int
    width: int
    hidden: int = 16

    def setup(self) -> None:
        """Names the parameters."""
        zeros = nn.initializers.zeros_init()
        self.item_embedding = self.param("item_embedding", zeros, (self.items, self.width))
        self.item_bias = self.param("item_bias", zeros, (self.items,))
        self.log_noise = self.param("log_noise", zeros, ())
        self.log_spread = self.param("log_spread", zeros, (self.width,))
        self.user_map = nn.Dense(self.width, use_bias=False, kernel_init=zeros)
        self.inner = nn.Dense(self.hidden, use_bias=False)
        self.correction = nn.Dense(self.width, use_bias=False, kernel_init=zeros)

    def encode(self, support: Examples) -> jax.Array:
        """Returns `[L]` the deviation of the user's latent vector from its mean by attributes."""
        inputs, labels, mask = blanked(support)
        residual = jnp.where(mask, labels - self.decode(jnp.zeros(self.width), inputs), 0)
        spread = jnp.sum(mask) * jnp.exp(self.log_spread)
        latents = residual @ self.item_embedding[inputs.item] / (jnp.exp(self.log_noise) + spread)
        return latents + self.correction(nn.relu(self.inner(latents)))

    def decode(self, state: jax.Array, inputs: Inputs) -> jax.Array:
        """Scores `[N]` items for that user."""
        latents = jnp.broadcast_to(state, (len(inputs.item), self.width))
        if inputs.user_features.shape[1]:
            latents += self.user_map(inputs.user_features)
        embedding = self.item_embedding[inputs.item]
        return self.item_bias[inputs.item] + jnp.sum(embedding * latents, axis=1)

    def __call__(self, support: Examples, inputs: Inputs) -> jax.Array:
        """Scores items for the user of the support."""
        return self.decode(self.encode(support), inputs)


def initial_student(
    params: Params,
    *,
    design: jax.Array,
    expected: jax.Array,
    share: jax.Array,
    user_map: jax.Array,
    noise: jax.Array,
) -> Params:
    """Initialises the student by a Gaussian model, rotated to uncorrelated directions.

    Args:
        params: Parameters of a `StudentNetwork`.
        design: `[I, L]` regressors of the items, for users with a standard normal prior.
        expected: `[I]` ratings by a user whose latents are 0.
        share: `[I]` share of all ratings, the weights of the items; they sum to 1.
        user_map: `[Du, L]` from attributes of a user to prior means.
        noise: `[]` variance of a rating, > 0.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a shape does not match.
    """
    spread, turn = jnp.linalg.eigh(design.T @ (share[:, None] * design))
    values = {
        "item_embedding": design @ turn,
        "item_bias": expected,
        "log_noise": jnp.log(noise),
        # Rounding makes the spread in a direction without items negative.
        "log_spread": jnp.log(jnp.maximum(spread, 1e-6)),
        "user_map": {"kernel": user_map @ turn},
    }
    if "user_map" not in params:
        del values["user_map"]
    return with_initial_values(params, values)


def distilled(
    student: SupportModel,
    teacher: Adaptation,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    teacher_weight: float = 0.5,
    microbatch: int | None = None,
) -> MetaLearner:
    """Trains a student by ratings and by a teacher's predictions for the same user and items.

        (1 - teacher_weight) * loss(student, ratings) + teacher_weight * loss(student, teacher)

    The first term is of the rated rows of a query, the second of all: queries may hold items of
    one domain for users of the other, of whom no rating is known.

    Args:
        student: Its parameters are `{"student": ..., "teacher": ...}`, of which it uses its own.
        teacher: Adapts and predicts by `params["teacher"]`, which stays as it is.
        loss: `loss(scores, labels, *, where) -> []`, of the query,
            or elementwise as in `losses.with_mask`.
        outer: Optax optimizer of the student.
        teacher_weight: Weight of the teacher's predictions, in [0, 1].
        microbatch: Tasks in memory at once; None means all of an update.

    Returns:
        A meta-learner that predicts by the student alone. Queries of its training tasks have
        `MemberInputs`, as from `sample_unrated_tasks`.

    Raises:
        ValueError: If `teacher_weight` is not in [0, 1].

    References:
        Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, arXiv 1503.02531,
        section 2: a weighted mean of two objectives. Unlabelled items for a student's ranking:
        Tang and Wang, Ranking Distillation, KDD 2018; between domains: Li et al., Cross-domain
        recommendation via knowledge distillation, Knowledge-Based Systems 2025. Differs: targets
        are ratings and no soft classes, so there is no temperature; no common users are needed.
    """
    if not 0 <= teacher_weight <= 1:
        raise ValueError(f"teacher_weight must be in [0, 1], got {teacher_weight}.")
    masked_loss, adaptation = with_mask(loss), amortised(student.encode, student.decode)

    def task_loss(params: Params, task: Task, key: jax.Array | None, step: jax.Array) -> jax.Array:
        del step
        query = blanked(task.query)
        if not isinstance(query.inputs, MemberInputs):
            raise TypeError(
                f"queries must mark rated items by MemberInputs, got {type(query.inputs).__name__}."
            )
        inputs = query.inputs.inputs
        scores = student.decode(params, adaptation.adapt(params, task.support, key), inputs)
        adapted = teacher.adapt(params["teacher"], task.support, key)
        targets = jax.lax.stop_gradient(teacher.predict(params["teacher"], adapted, inputs))
        by_ratings = masked_loss(scores, query.labels, where=query.mask & query.inputs.known)
        return (1 - teacher_weight) * by_ratings + teacher_weight * masked_loss(
            scores, targets, where=query.mask
        )

    return learner_with(
        {0: task_loss}, student, adaptation, fixed(outer, "teacher"), microbatch=microbatch
    )


def unrated_table(training: TrainingSet, *, seed: int = 0) -> UnratedTable:
    """Tables on the device for `sample_unrated_tasks`; arguments and errors of `cross_table`."""
    return cross_table(training, seed=seed), source_table(training, seed=seed)


def sample_unrated_tasks(
    tables: UnratedTable,
    key: jax.Array,
    *,
    tasks: int,
    source: int,
    support: int,
    query: int,
) -> Task:
    """Draws users of the target with ratings, and users of the source with unrated queries.

    The first half are those of `sample_cross_tasks`. The others have a support in the source, and
    a query of items of the target, drawn in proportion to their number of ratings, without labels.

    Args:
        tables: As from `unrated_table`.
        key: A PRNG key.
        tasks: T, the number of tasks, >= 2.
        source: Most source interactions in the support, drawn at random, >= 0.
        support: Most target interactions in the support, >= 0.
        query: Q, most interactions in the query, >= 1.

    Returns:
        Tasks whose queries have `MemberInputs`, with `known` where there is a label; leaves lead
        with `[T, source + support]` and `[T, Q]`.

    Raises:
        ValueError: If a number is too small.
    """
    if tasks < 2:
        raise ValueError(f"tasks must be >= 2, got {tasks}.")
    both, source_alone = tables
    rated_key, unrated_key = jax.random.split(key)
    rated = sample_cross_tasks(
        both,
        rated_key,
        tasks=tasks - tasks // 2,
        source=source,
        support=support,
        query=query,
        members=True,
    )
    target = both[1]
    ratings = jnp.sum(target.count)

    def one(key: jax.Array) -> Task:
        user_key, row_key, item_key = jax.random.split(key, 3)
        user = jax.random.randint(user_key, (), 0, source_alone.users)
        count = source_alone.count[user]
        rows = distinct(row_key, count, source + support)
        shown = jnp.arange(source + support) < jnp.minimum(count, source)
        item = target.item[jax.random.randint(item_key, (query,), 0, ratings)]
        zeros, mask = jnp.zeros(query), jnp.ones(query, bool)
        unrated = Examples(inputs_of(source_alone, user, item), zeros, mask)
        return Task(
            rows_of_user(source_alone, user, rows, shown),
            of_member(unrated, source_alone.user[user], ~mask, zeros),
        )

    unrated = jax.vmap(one)(jax.random.split(unrated_key, tasks // 2))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), rated, unrated)


def _network(settings: Settings, shapes: Shapes) -> SupportModel:
    """Builds the student, with the teacher among its parameters."""
    traits, width = widths_of_content(shapes.item_width)
    student = from_support_module(StudentNetwork(shapes.items, width, settings.options.width))

    def init(key: jax.Array, inputs: Any) -> Params:
        teacher = Content(
            jnp.zeros(shapes.items),
            jnp.zeros((shapes.items, traits)),
            jnp.zeros((traits + shapes.item_width, width)),
            jnp.zeros((shapes.user_width, width)),
            jnp.ones(()),
        )
        return {"student": student.init(key, inputs), "teacher": teacher}

    def encode(params: Params, support: Examples) -> Any:
        return student.encode(params["student"], support)

    def decode(params: Params, state: Any, inputs: Any) -> Any:
        if isinstance(inputs, MemberInputs):
            inputs = inputs.inputs
        return student.decode(params["student"], state, inputs)

    return SupportModel(init, encode, decode)


def _initial(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Fits the teacher in closed form, and initialises the student by its embeddings."""
    del settings
    teacher = fit_content(training)
    features = np.concatenate([teacher.traits, training.item_features], axis=1)
    count = np.bincount(training.interactions.item, minlength=len(features))
    student = partial(
        initial_student,
        design=jnp.asarray(features @ np.asarray(teacher.encoder)),
        expected=teacher.expected,
        share=jnp.asarray(count / np.sum(count), jnp.float32),
        user_map=teacher.user_map,
        noise=teacher.noise,
    )
    return lambda params: {"student": student(params["student"]), "teacher": teacher}


def _sampler(settings: Settings, shapes: Shapes) -> Sampler:
    del shapes
    return Sampler(
        partial(
            sample_unrated_tasks,
            tasks=settings.tasks,
            source=settings.options.source_shown,
            support=min(settings.support, settings.options.target_shown),
            query=settings.query,
        ),
        unrated_table,
    )


def _learner(settings: Settings, network: SupportModel) -> MetaLearner:
    return distilled(
        network,
        ridge_head(content_evidence),
        objectives[settings.objective].loss,
        outer=outer_optimizer(settings),
        teacher_weight=settings.options.teacher_weight,
        microbatch=settings.microbatch,
    )


methods: tuple[Method, ...] = (
    Method(
        "distilled",
        _learner,
        _network,
        _initial,
        _sampler,
        options=DistilledOptions,
        settings={"weight_decay": 0.0, "updates": 200},
        grid=({}, {"rate": 3e-3}),
        any_support=True,
        needs_ratings=True,
        two_domains=True,
    ),
)
