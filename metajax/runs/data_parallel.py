"""Data-parallel training of a run by several processes, which Ray launches.

Each process holds the whole state and draws its share of every update's tasks; `jax.distributed`
sums their gradients, over Gloo between CPUs. The process that launches them keeps the run's folder
and validates: it sends the state once, and gets it back after each dispatch. So a lost process
costs a dispatch: all are launched again, from the state that the last one left, to the same bits.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from metajax import cluster, training
from metajax.data.dataset import TrainingSet, shapes_of
from metajax.distributed import replicated, sampled, task_mesh
from metajax.evaluation import train_on
from metajax.methods import Settings
from metajax.registry import closed_form_of, learner_of, sampler_of
from metajax.runs.run import Run
from metajax.training import Progress
from metajax.types import MetaState

__all__ = ["DataParallel", "Share", "check_workers"]

# Losses without an update between them: then something is wrong with what they compute.
_ATTEMPTS = 3


class DataParallel(NamedTuple):
    """A run that several processes train; a `Trainable`."""

    run: Run
    """The run, of a method that is trained by updates."""
    workers: int
    """Number of processes, of which the settings' `tasks` are a multiple."""
    address: str = "local"
    """The cluster, as in `cluster.connected`; `local` means this machine."""
    on_lost: Callable[[str], None] = lambda line: None
    """Called with a line when a process was lost, before all are launched again."""

    @property
    def folder(self) -> Path:
        """The run's folder, which this process alone writes to."""
        return self.run.folder

    def progress_like(self) -> Progress:
        """As `Run.progress_like`."""
        return self.run.progress_like()

    def steps(self, progress: Progress) -> Iterator[tuple[Progress, Any]]:
        """Trains, as `Trainable.steps`.

        Losses are those of one process up to the order of sums; for a number of workers, with as
        many CPUs each, the same bits, whether or not one of them is lost on the way.

        Raises:
            ValueError: If the settings do not suit the number of workers.
            ImportError: If the extra `ray` is not installed.
            ClusterError: If the cluster cannot be used, has no room, its workers have other
                versions, or are lost again and again.
        """
        settings = self.run.settings
        check_workers(settings, self.workers)
        with cluster.connected(self.address, cpus=self.workers) as ray, ExitStack() as stack:
            given = ray.put((self.run.users.training, settings))
            group = _Group(ray, self.workers, given, stack, self.on_lost)
            yield from train_on(self.run.users, settings, progress, make=group.make)


def check_workers(settings: Settings, workers: int, *, divide: bool = True) -> None:
    """Refuses a number of workers that does not suit the settings.

    Args:
        settings: Those of the run.
        workers: The number.
        divide: True where they share the tasks of an update, as `DataParallel` has them.

    Raises:
        ValueError: If it does not.
    """
    closed_form = closed_form_of(settings)
    if closed_form is not None:
        raise ValueError(
            f"workers train methods that are trained by updates, such as maml; {settings.method} "
            "is a closed form."
        )
    if workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}.")
    if divide and settings.tasks % workers:
        raise ValueError(
            f"workers must divide the tasks of an update, {settings.tasks}, got {workers}."
        )


class _Group:
    """Processes that make updates together, launched again when one is lost."""

    def __init__(
        self, ray: Any, count: int, given: Any, stack: ExitStack, on_lost: Callable[[str], None]
    ):
        self._ray, self._count, self._given = ray, count, given
        self._stack, self._on_lost = stack, on_lost
        self._workers: cluster.Workers | None = None
        self._latest: MetaState | None = None

    def make(self, state: MetaState, length: int) -> tuple[MetaState, dict[str, Any]]:
        """Makes updates, as `training.Dispatch`."""
        for attempt in range(_ATTEMPTS):
            try:
                if self._workers is None:
                    self._workers = self._launched()
                    self._latest = None
                if state is not self._latest:
                    self._workers.all("restore", self._ray.put(jax.tree.map(np.asarray, state)))
                (self._latest, metrics), *_ = self._workers.all("dispatch", length)
                return self._latest, metrics
            except cluster.LostError as error:
                self._stack.close()
                self._workers = None
                step = int(state.step)
                if attempt == _ATTEMPTS - 1:
                    raise cluster.ClusterError(
                        f"{error} Lost {_ATTEMPTS} times at update {step}; what is saved stays."
                    ) from None
                self._on_lost(f"{error} All begin again from update {step}.")
        raise AssertionError

    def _launched(self) -> cluster.Workers:
        workers = self._stack.enter_context(cluster.launched(self._ray, self._count))
        workers.begin(Share)
        coordinator = workers.result(0, workers.start(0, "coordinator"))
        workers.results(
            [workers.start(n, "join", coordinator, self._count, n) for n in workers.ranks]
        )
        workers.all("prepare", self._given)
        return workers


class Share:
    """One process's share of the updates: the object of a worker."""

    _rank: int
    _mesh: Mesh
    _state: MetaState
    _update: Callable[..., Any]

    def coordinator(self) -> str:
        """Returns an address of this process at which the others can find it."""
        import ray

        address = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((address, 0))
            return f"{address}:{probe.getsockname()[1]}"

    def join(self, coordinator: str, processes: int, rank: int) -> None:
        """Joins the processes that compute together, before JAX starts its devices."""
        self._rank = rank
        if processes > 1:
            jax.distributed.initialize(
                coordinator, processes, rank, cluster_detection_method="deactivate"
            )
        if jax.process_count() != processes:
            raise RuntimeError(f"processes must be {processes}, got {jax.process_count()}.")

    def prepare(self, given: tuple[TrainingSet, Settings]) -> None:
        """Builds the learner and its table of tasks.

        Args:
            given: The training users and the settings.

        Raises:
            ValueError: If the devices of all processes do not divide the tasks.
        """
        users, settings = given
        self._mesh = task_mesh()
        if settings.tasks % self._mesh.size:
            raise ValueError(
                "tasks must be a multiple of the devices of all workers "
                f"({self._mesh.size}), got {settings.tasks}."
            )
        shapes = shapes_of(users)
        sampler = sampler_of(settings, shapes)
        table = replicated(sampler.table(users, seed=settings.seed), self._mesh)
        dispatch = partial(
            training.dispatch,
            learner=learner_of(settings, shapes),
            sample=sampled(sampler.sample, self._mesh),
        )

        def make(state: MetaState, table: Any, *, length: int) -> Any:
            return dispatch(state, table, jax.random.key(settings.seed), length=length)

        everywhere = NamedSharding(self._mesh, PartitionSpec())
        self._update = partial(
            jax.jit(make, static_argnames="length", out_shardings=everywhere), table=table
        )

    def restore(self, state: MetaState) -> None:
        """Takes a state to continue from."""
        self._state = replicated(state, self._mesh)

    def dispatch(self, length: int) -> tuple[MetaState, Any] | None:
        """Makes updates; returns the state and the metrics on the first process, else None."""
        with jax.set_mesh(self._mesh):
            self._state, metrics = self._update(self._state, length=length)
        jax.block_until_ready(self._state)
        if self._rank:
            return None
        return jax.tree.map(np.asarray, (self._state, metrics))
