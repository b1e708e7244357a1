"""Asynchronous training of a run by a parameter server and workers, which Ray launches.

The server holds the state. A worker takes its parameters, draws tasks, computes their meta-gradient
and sends it; the server applies it with the outer optimizer at once, though others have changed the
parameters meanwhile: the gradient is stale by as many updates. Nobody waits for anybody, so a slow
worker slows no other and a lost one costs its gradient; but the losses of two trainings differ, as
the order in which gradients come is left to chance. With one worker nothing is stale, and the
losses are those of a training by one process.

References:
    Dean et al., Large Scale Distributed Deep Networks, NeurIPS 2012, section 4.1, Downpour SGD,
    with one parameter shard, and parameters taken at every step.
"""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax import cluster
from metajax.data.dataset import Shapes, TrainingSet, shapes_of
from metajax.evaluation import train_on
from metajax.methods import Settings
from metajax.registry import learner_of, sampler_of
from metajax.runs.data_parallel import check_workers
from metajax.runs.run import Run
from metajax.training import Progress
from metajax.types import MetaLearner, MetaState, Params

__all__ = ["Contributor", "ParameterServer", "Server"]


class ParameterServer(NamedTuple):
    """A run that workers train without waiting for each other; a `Trainable`."""

    run: Run
    """The run, of a method that is trained by updates."""
    workers: int
    """Number of processes that compute gradients, each of all tasks of an update."""
    address: str = "local"
    """The cluster, as in `cluster.connected`; `local` means this machine."""
    on_lost: Callable[[str], None] = lambda line: None
    """Called with a line when a worker was lost; the others go on."""
    on_staleness: Callable[[np.ndarray], None] = lambda updates: None
    """Called after each dispatch with the staleness of its gradients, `[length]`, in updates."""

    @property
    def folder(self) -> Path:
        """The run's folder, which this process alone writes to."""
        return self.run.folder

    def progress_like(self) -> Progress:
        """As `Run.progress_like`."""
        return self.run.progress_like()

    def steps(self, progress: Progress) -> Iterator[tuple[Progress, Any]]:
        """Trains, as `Trainable.steps`; errors as of `DataParallel.steps`."""
        settings = self.run.settings
        check_workers(settings, self.workers, divide=False)
        with (
            cluster.connected(self.address, cpus=self.workers) as ray,
            cluster.launched(ray, self.workers) as workers,
        ):
            given = ray.put((self.run.users.training, settings))
            # Beside the workers: it computes little, but must not wait for them.
            server = ray.remote(Server).options(num_cpus=0, max_concurrency=self.workers + 4)
            serving = server.remote(shapes_of(self.run.users.training), settings)
            state = ray.put(jax.tree.map(np.asarray, progress.state))
            try:
                ray.get(serving.restore.remote(state))
                workers.begin(Contributor, given)
                running = {
                    workers.start(rank, "contribute", serving): rank for rank in workers.ranks
                }
                make = partial(self._dispatch, ray, serving, workers, running)
                yield from train_on(self.run.users, settings, progress, make=make)
            finally:
                ray.kill(serving)

    def _dispatch(
        self,
        ray: Any,
        serving: Any,
        workers: cluster.Workers,
        running: dict[Any, int],
        state: MetaState,
        length: int,
    ) -> tuple[MetaState, dict[str, Any]]:
        """Waits until the server has made so many updates more, as `training.Dispatch`."""
        reached = serving.reached.remote(int(state.step) + length)
        while True:
            # Of several that are ready the first is returned: a loss is not to wait for the end.
            done, _ = ray.wait([*running, reached], num_returns=1)
            if reached in done:
                try:
                    found, metrics = ray.get(reached)
                except ray.exceptions.RayActorError:
                    raise cluster.ClusterError(
                        "the parameter server was lost; the run resumes from its last checkpoint."
                    ) from None
                self.on_staleness(metrics["staleness"])
                return found, metrics
            for reference in done:
                rank = running.pop(reference)
                try:
                    workers.result(rank, reference)
                except cluster.LostError as error:
                    if not running:
                        raise cluster.ClusterError(f"{error} It was the last one.") from None
                    self.on_lost(f"{error} {len(running)} go on.")


class Server:
    """Holds the state and applies gradients to it: the object of the server's process.

    Args:
        shapes: Of the training set.
        settings: The settings.
    """

    _state: MetaState
    _step: int

    def __init__(self, shapes: Shapes, settings: Settings):
        self._most = settings.updates
        self._changed = threading.Condition()
        self._rows: list[tuple[float, float, int]] = []
        self._ticket = 0
        optimizer = outer_of(learner_of(settings, shapes))

        def apply(state: MetaState, gradient: Params) -> MetaState:
            updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            return MetaState(params, opt_state, state.step + 1)

        self._apply = jax.jit(apply)

    def restore(self, state: MetaState) -> None:
        """Takes a state to continue from."""
        with self._changed:
            self._state = jax.tree.map(jnp.asarray, state)
            self._step = self._ticket = int(state.step)
            self._rows = []

    def pull(self) -> tuple[int, int, Params] | None:
        """Gives out parameters.

        Returns:
            The number of updates they are of, the number of the tasks to draw, and they; None once
            training is at its end.
        """
        with self._changed:
            if self._step >= self._most:
                return None
            self._ticket += 1
            return self._step, self._ticket - 1, jax.tree.map(np.asarray, self._state.params)

    def push(
        self, step: int, gradient: Params, loss: float, norm: float
    ) -> tuple[int, int, Params] | None:
        """Applies a gradient, and gives out parameters.

        Args:
            step: The number of updates of the parameters it is of.
            gradient: The meta-gradient.
            loss: The meta-loss there.
            norm: The gradient's norm.

        Returns:
            As `pull`.
        """
        with self._changed:
            if self._step < self._most:
                self._state = jax.block_until_ready(self._apply(self._state, gradient))
                self._rows.append((loss, norm, self._step - step))
                self._step += 1
                self._changed.notify_all()
            return self.pull()

    def reached(self, step: int) -> tuple[MetaState, dict[str, np.ndarray]]:
        """Waits for a number of updates.

        Args:
            step: Updates in all.

        Returns:
            The state, perhaps of more of them, and loss, norm and staleness of each since it was
            last asked for.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._step >= step)
            columns = map(np.array, zip(*self._rows, strict=True))
            self._rows = []
            metrics = dict(zip(("loss", "gradient_norm", "staleness"), columns, strict=True))
            return jax.tree.map(np.asarray, self._state), metrics


class Contributor:
    """Computes meta-gradients: the object of a worker.

    Args:
        given: The training users and the settings.
    """

    def __init__(self, given: tuple[TrainingSet, Settings]):
        users, settings = given
        shapes = shapes_of(users)
        sampler = sampler_of(settings, shapes)
        self._table = sampler.table(users, seed=settings.seed)
        with_outer = learner_of(settings, shapes).with_outer
        assert with_outer is not None  # The server has refused a learner without.
        learner = with_outer(lambda _: _kept_gradient())

        def gradient_of(params: Params, step: jax.Array, number: jax.Array, table: Any) -> Any:
            # As `training.dispatch` has it: the tasks of update `number`.
            key = jax.random.fold_in(jax.random.key(settings.seed), number)
            task_key, update_key = jax.random.split(key)
            state = MetaState(params, _kept_gradient().init(params), step)
            found, metrics = learner.update(state, sampler.sample(table, task_key), update_key)
            return found.opt_state, metrics["loss"], metrics["gradient_norm"]

        self._gradient_of = jax.jit(gradient_of)

    def contribute(self, serving: Any) -> None:
        """Computes gradients for a server until training is at its end."""
        import ray

        given = ray.get(serving.pull.remote())
        while given is not None:
            step, number, params = given
            found = self._gradient_of(params, np.int32(step), np.int32(number), self._table)
            gradient, loss, norm = jax.tree.map(np.asarray, found)
            given = ray.get(serving.push.remote(step, gradient, float(loss), float(norm)))


def outer_of(learner: MetaLearner) -> optax.GradientTransformation:
    """Returns the outer optimizer of a learner.

    Raises:
        ValueError: If the learner has no outer optimizer that could be applied elsewhere.
    """
    if learner.with_outer is None:
        raise ValueError("the learner must have `with_outer`, so that its gradient can be sent.")
    found: list[optax.GradientTransformation] = []

    def keep(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
        found.append(optimizer)
        return optimizer

    learner.with_outer(keep)
    return found[0]


def _kept_gradient() -> optax.GradientTransformation:
    """An optimizer that changes nothing, and whose state is the last gradient."""

    def init(params: Params) -> Params:
        return jax.tree.map(jnp.zeros_like, params)

    def update(updates: Params, state: Params, params: Params = None) -> tuple[Params, Params]:
        del state, params
        return jax.tree.map(jnp.zeros_like, updates), updates

    return optax.GradientTransformation(init, update)
