"""Meta-training: many updates per dispatch over tasks sampled on the device."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.types import MetaLearner, MetaState, Params, Sampler

__all__ = ["Dispatch", "DivergedError", "Progress", "Row", "begin", "dispatch", "train", "train_by"]

Dispatch = Callable[[MetaState, int], tuple[MetaState, dict[str, Any]]]
"""`make(state, length) -> (state, metrics)`: makes so many updates; the metrics hold `loss` and
`gradient_norm` of each, `[length]`."""


class Progress(NamedTuple):
    """State of a training run, from which it can be resumed: a plain pytree.

    The task sampler has no state: its key is a function of the seed and of `state.step`.
    """

    state: MetaState
    """The learner's state."""
    best: Params
    """The parameters with the lowest validation loss so far."""
    best_loss: jax.Array
    """`[]` that loss; infinite before the first validation."""
    best_step: jax.Array
    """`[]` int32, the update it was reached at."""


class Row(NamedTuple):
    """Record of one dispatch."""

    step: int
    """Updates made so far."""
    loss: float
    """Mean meta-loss of the dispatch."""
    gradient_norm: float
    """Mean norm of the meta-gradients, before clipping."""
    validation: float | None
    """Validation loss after it; None between validations."""


class DivergedError(RuntimeError):
    """A loss that is not finite, or above its limit."""

    def __init__(self, step: int, loss: float, which: str = "meta-loss"):
        super().__init__(f"the {which} became {loss:g} at update {step}.")
        self.step, self.loss = step, loss


def begin(state: MetaState) -> Progress:
    """Initial progress of a training run.

    Args:
        state: From `MetaLearner.init`.
    """
    # A weak type, such as that of `jnp.full((1,), 0.5)`, is lost in the first update: another
    # type, and everything would be compiled twice.
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)
    return Progress(
        state,
        best=state.params,
        best_loss=jnp.array(jnp.inf),
        best_step=jnp.zeros((), jnp.int32),
    )


def train(
    learner: MetaLearner,
    sample: Sampler,
    table: Any,
    progress: Progress,
    *,
    validate: Callable[[Params], float] | None,
    updates: int,
    seed: int = 0,
    per_dispatch: int = 10,
    validate_every: int = 100,
    patience: int = 10,
    limit: float = float("inf"),
) -> Iterator[tuple[Progress, Row]]:
    """Meta-training with early stopping.

    Each dispatch scans `per_dispatch` updates inside one compiled program, which is kept for
    the next run of the same learner and sampler on a table of the same shapes. Except at
    validations the next dispatch begins before the losses of the last are read, so that the device
    does not wait for Python; its state is in memory beside that of the progress. Tasks depend on
    the seed and the step alone, so that a run resumed from any yielded progress gives the same
    bits. Training ends after `updates`, or when validation has not improved `patience` times; stop
    iterating to end it earlier.

    Args:
        learner: The meta-learner.
        sample: `sample(table, key) -> tasks`, traced into the program.
        table: Data of the sampler, an argument of the program and not a constant in it.
        progress: From `begin`, from an earlier iteration, or from a checkpoint.
        validate: `validate(params) -> float`, lower is better; None: no early stopping.
        updates: Updates in all; the last dispatch makes what is left.
        seed: Of the task sampler.
        per_dispatch: Updates per dispatch.
        validate_every: Updates between validations; a multiple of `per_dispatch`.
        patience: Validations without improvement before training stops.
        limit: A meta-loss above it ends the run by an error.

    Yields:
        After each dispatch, the progress and what happened.

    Raises:
        ValueError: If `validate_every` is no multiple of `per_dispatch`, or one of them or
            `patience` < 1.
        DivergedError: If a loss is not finite or is above `limit`; the last progress that was
            yielded is still good.
    """
    key = jax.random.key(seed)
    reached = int(progress.state.step)
    # The result of a dispatch that began early, and the state it began from.
    early: tuple[MetaState, Any] | None = None

    def begun(state: MetaState, length: int) -> tuple[MetaState, dict[str, Any]]:
        return dispatch(state, table, key, learner=learner, sample=sample, length=length)

    def make(state: MetaState, length: int) -> tuple[MetaState, dict[str, Any]]:
        nonlocal early, reached
        made = early[1] if early is not None and early[0] is state else begun(state, length)
        before, reached = reached, reached + length
        early = None
        # Not where validation may end training, nor beside its programs.
        validates = validate is not None and reached // validate_every > before // validate_every
        if reached < updates and not validates:
            early = made[0], begun(made[0], min(per_dispatch, updates - reached))
        return made

    return train_by(
        make,
        progress,
        validate=validate,
        updates=updates,
        per_dispatch=per_dispatch,
        validate_every=validate_every,
        patience=patience,
        limit=limit,
    )


def train_by(
    make: Dispatch,
    progress: Progress,
    *,
    validate: Callable[[Params], float] | None,
    updates: int,
    per_dispatch: int = 10,
    validate_every: int = 100,
    patience: int = 10,
    limit: float = float("inf"),
) -> Iterator[tuple[Progress, Row]]:
    """Meta-training with early stopping, by updates that are made elsewhere.

    Args:
        make: Makes updates, by several processes for instance. It may make more of them than it is
            asked for, but never more than `updates` in all; the state has their number.
        progress: As in `train`, like all that follows.
        validate: `validate(params) -> float`.
        updates: Updates in all.
        per_dispatch: Updates per dispatch.
        validate_every: Updates between validations.
        patience: Validations without improvement before training stops.
        limit: A meta-loss above it ends the run by an error.

    Yields:
        As `train`.

    Raises:
        ValueError: As `train`.
        DivergedError: As `train`.
    """
    if per_dispatch < 1 or validate_every < 1 or validate_every % per_dispatch:
        raise ValueError(
            "validate_every must be a positive multiple of per_dispatch, got "
            f"{validate_every} and {per_dispatch}."
        )
    if patience < 1:
        raise ValueError(f"patience must be >= 1, got {patience}.")

    step = int(progress.state.step)
    while step < updates and step - int(progress.best_step) < patience * validate_every:
        state, metrics = make(progress.state, min(per_dispatch, updates - step))
        losses = np.asarray(metrics["loss"])
        norms = np.asarray(metrics["gradient_norm"])
        bad = ~(losses <= limit) | ~np.isfinite(losses) | ~np.isfinite(norms)
        if bad.any():
            worst = int(np.argmax(bad))
            raise DivergedError(step + worst + 1, float(losses[worst]))
        before, step = step, int(state.step)
        progress = progress._replace(state=state)
        validation = None
        if validate is None:
            progress = progress._replace(best=state.params, best_step=state.step)
        # Not `step % validate_every`: a resumed run may step over the multiples.
        elif step // validate_every > before // validate_every or step >= updates:
            validation = validate(state.params)
            if not np.isfinite(validation):
                raise DivergedError(step, validation, "validation loss")
            if validation < progress.best_loss:
                progress = progress._replace(
                    best=state.params, best_loss=jnp.array(validation), best_step=state.step
                )
        yield progress, Row(step, float(losses.mean()), float(norms.mean()), validation)


@partial(jax.jit, static_argnames=("learner", "sample", "length"))
def dispatch(
    state: MetaState,
    table: Any,
    key: jax.Array,
    *,
    learner: MetaLearner,
    sample: Sampler,
    length: int,
) -> tuple[MetaState, dict[str, jax.Array]]:
    """Makes updates on tasks that are sampled on the device, in one program.

    Args:
        state: The learner's state.
        table: Data of the sampler.
        key: That of the task sampler; each update folds its step in.
        learner: The meta-learner.
        sample: `sample(table, key) -> tasks`.
        length: Number of updates.

    Returns:
        The next state, and the metrics of each update, `[length]`.
    """

    def update(state: MetaState, _: None) -> tuple[MetaState, dict[str, jax.Array]]:
        task_key, update_key = jax.random.split(jax.random.fold_in(key, state.step))
        return learner.update(state, sample(table, task_key), update_key)

    return jax.lax.scan(update, state, length=length)
