"""Ray clusters: connecting to one, processes placed on its nodes, and errors in one line.

Ray launches the processes, places them and tells when one is lost. What they compute together they
compute by `jax.distributed`, which the caller starts in them.

A worker first tells which versions it has: it is pickled by value and needs nothing of this package
until they are known to be the same.
"""

import contextlib
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = [
    "ClusterError",
    "LostError",
    "Worker",
    "Workers",
    "check_versions",
    "connected",
    "launched",
    "most_workers",
    "share_of",
    "streamed",
    "versions",
]

# Seconds that workers wait for room: another job may end, or a node may come back.
_ROOM = 60.0

# Seconds in which the loss of one worker is to be told from the errors that it causes in others.
_GRACE = 5.0

# Losses without a result between them: then something is wrong with what is computed.
_LOSSES = 3

# Seconds in which the head of a cluster answers.
_ANSWER = 5.0

_STORE = 256 * 2**20


class ClusterError(RuntimeError):
    """A cluster that cannot be reached, has no room, or whose workers do not fit."""


class LostError(ClusterError):
    """A worker whose process, or whose node, has ended."""


class Worker(NamedTuple):
    """A process of a cluster."""

    actor: Any
    """Ray's handle of it."""
    name: str
    """Its number, and the node that it is on."""
    node: str
    """Ray's name of that node."""


@contextlib.contextmanager
def connected(address: str = "local", *, cpus: int = 1, store: int = _STORE) -> Iterator[Any]:
    """Connects to a cluster, or starts Ray on this machine.

    Where this process is connected already, that connection is used, and stays.

    Args:
        address: `HOST:PORT` of the head; `auto` for a cluster that this machine is a node of;
            `local` starts one here, which ends with this process.
        cpus: Least number of CPUs of one that is started.
        store: Bytes of its object store; what does not fit goes to the disk.

    Yields:
        The module `ray`.

    Raises:
        ImportError: If the extra `ray` is not installed.
        ClusterError: If no cluster answers, or it has another version of Ray or Python.
        ValueError: If the address is none.
    """
    ray = _imported()
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"address": address}
    if address == "local":
        options |= {
            "num_cpus": max(cpus, os.cpu_count() or 1),
            "object_store_memory": store,
            "include_dashboard": False,
        }
    elif address != "auto":
        _check_address(address)
    try:
        with _own_handlers(), warnings.catch_warnings():
            # Ray forks before it executes; JAX warns of every fork.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        where = "on this machine" if address in ("auto", "local") else f"at {address}"
        raise ClusterError(f"no Ray cluster can be used {where}: {_line(error)}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Refuses an address at which nothing answers; Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise ValueError(
            f"ray must be auto, local or HOST:PORT of a cluster's head, got {address!r}."
        )
    try:
        socket.create_connection((host, int(port)), _ANSWER).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {_line(error)}.") from None


def _imported() -> Any:
    # A library sends no statistics. Ray warns of a change to come in what actors without
    # accelerators see, and prints paragraphs for what is one line here. Where it is started here,
    # its workers are what this machine is to do, and no background.
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_IGNORE_UNHANDLED_ERRORS": "1",
        "RAY_DEDUP_LOGS_SKIP_REGEX": "worker died or was|node with node id|Raylet is term",
        "RAY_worker_niceness": "0",
    }.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ImportError("many processes need ray: install the extra, 'metajax[ray]'.") from error
    return ray


@contextlib.contextmanager
def _own_handlers() -> Iterator[None]:
    """Keeps the handlers of signals, in whose place Ray puts its own."""
    main = threading.current_thread() is threading.main_thread()
    kept = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def most_workers(ray: Any) -> int:
    """Returns how many workers a cluster has by default: one a GPU, or else one a node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(int(node.get("GPU", 0)) for node in nodes) or len(nodes)


def share_of(nodes: Sequence[Mapping[str, float]], workers: int) -> dict[str, float] | None:
    """Returns the resources that each of some equal workers may have.

    Args:
        nodes: Resources of each node, `CPU` and perhaps `GPU`.
        workers: Number of workers.

    Returns:
        The most CPUs, and a GPU where there are as many; None where there is no room for them.

    Example:
        >>> share_of([{"CPU": 8.0}, {"CPU": 4.0}], 3)
        {'CPU': 4}
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes) >= workers
    for cpus in range(max([int(node.get("CPU", 0)) for node in nodes], default=0), 0, -1):
        room = [
            min([int(node.get("CPU", 0)) // cpus, *([int(node.get("GPU", 0))] if gpus else [])])
            for node in nodes
        ]
        if sum(room) >= workers:
            return {"CPU": cpus, **({"GPU": 1} if gpus else {})}
    return None


class Workers:
    """Processes that were launched together, each with an object whose methods are called.

    Args:
        ray: From `connected`.
        members: The processes, by rank.
        cpus: CPUs of each.
    """

    def __init__(self, ray: Any, members: Sequence[Worker], cpus: int):
        self.members = tuple(members)
        """By rank."""
        self.cpus = cpus
        """CPUs of each."""
        self._ray = ray

    @property
    def ranks(self) -> range:
        """Ranks of the processes, from 0."""
        return range(len(self.members))

    def begin(self, work: type, *arguments: Any) -> None:
        """Creates the object in each process, which imports its class.

        Raises:
            ClusterError: As `all`.
        """
        given = work.__module__, work.__qualname__, *arguments
        self.results([member.actor.begin.remote(*given) for member in self.members])

    def start(self, rank: int, method: str, *arguments: Any) -> Any:
        """Calls a method in one of them; returns Ray's reference of the result."""
        return self.members[rank].actor.call.remote(method, *arguments)

    def all(self, method: str, *arguments: Any) -> list[Any]:
        """Calls a method in all of them, and returns the results by rank.

        Raises:
            LostError: If one of them is lost; names it.
            ValueError: If the method raised it.
            ClusterError: If it failed otherwise.
        """
        return self.results([self.start(rank, method, *arguments) for rank in self.ranks])

    def result(self, rank: int, reference: Any) -> Any:
        """Waits for the result of one of them; errors as of `all`."""
        return self.results([reference], [rank])[0]

    def results(self, references: Sequence[Any], ranks: Sequence[int] | None = None) -> list[Any]:
        """Waits for the results of all ranks, or of some; errors as of `all`."""
        ranks = self.ranks if ranks is None else ranks
        left = list(references)
        while left:
            done, left = self._ray.wait(left, num_returns=1)
            try:
                self._ray.get(done)
            # Ray's own errors, those of the work, and of the connection to a cluster elsewhere.
            except Exception as error:
                raise self._explained(
                    dict(zip(ranks, references, strict=True)), done[0], error
                ) from error
        return self._ray.get(list(references))

    def _is_there(self, name: str) -> bool:
        """Asks a node itself: Ray takes its time until it believes that one is gone."""
        for node in self._ray.nodes():
            if node["NodeID"] == name and node["Alive"]:
                address = node["NodeManagerAddress"], node["NodeManagerPort"]
                with contextlib.suppress(OSError):
                    socket.create_connection(address, _ANSWER).close()
                    return True
        return False

    def _explained(
        self, references: Mapping[int, Any], first: Any, problem: Exception
    ) -> Exception:
        """Tells the worker that was lost from those that failed because of that."""
        from ray.exceptions import RayActorError, RayTaskError

        every = list(references.values())
        wait = 0.0 if isinstance(problem, RayActorError) else _GRACE
        ready, _ = self._ray.wait(every, num_returns=len(every), timeout=wait)
        lost, failed = [], []
        for rank, reference in references.items():
            try:
                self._ray.get(reference) if reference in ready else None
            except RayActorError as error:
                lost.append((rank, error))
            except RayTaskError as error:
                failed.append((rank, error.cause))
        if lost:
            # The first to end, unless a node is gone: others may have ended because of it, and of
            # those Ray may know sooner.
            died = [rank for rank, error in lost if "node has died" in str(error)]
            gone = died + [r for r in references if not self._is_there(self.members[r].node)]
            if gone:
                return LostError(f"{self.members[gone[0]].name} was lost: the node is gone.")
            rank = next((rank for rank, _ in lost if references[rank] == first), lost[0][0])
            return LostError(f"{self.members[rank].name} was lost: its process has ended.")
        if not failed:
            return ClusterError(f"Ray failed: {_line(problem)}")
        rank, error = failed[0]
        if isinstance(error, ValueError):
            return ValueError(str(error))
        return ClusterError(
            f"{self.members[rank].name} failed: {type(error).__name__}: {_line(error)}"
        )


@contextlib.contextmanager
def launched(ray: Any, count: int, *, room: float | None = None) -> Iterator[Workers]:
    """Launches processes on the nodes of a cluster, spread over them; ends them afterwards.

    Args:
        ray: From `connected`.
        count: Number of processes.
        room: Seconds to wait for room; None means a minute.

    Yields:
        The processes, which have this process's versions.

    Raises:
        ClusterError: If there is no room for them, or one has another version of this package or
            of JAX, or lacks one; names its node.
        LostError: If one is lost meanwhile.
    """
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    share, nodes = _share_with_patience(ray, count, _ROOM if room is None else room)
    group = placement_group([share] * count, strategy="SPREAD")
    actors: list[Any] = []
    try:
        try:
            ray.get(group.ready(), timeout=_ROOM if room is None else room)
        except ray.exceptions.GetTimeoutError:
            free = int(ray.available_resources().get("CPU", 0))
            total = sum(int(node["Resources"].get("CPU", 0)) for node in nodes)
            raise ClusterError(
                f"there is no room for {count} workers of {share['CPU']} CPUs each: {free} of "
                f"{total} CPUs are free."
            ) from None
        kind = ray.remote(_by_value())
        for rank in range(count):
            strategy = PlacementGroupSchedulingStrategy(group, rank)
            resources = {"num_cpus": share["CPU"], "num_gpus": share.get("GPU", 0)}
            options = kind.options(scheduling_strategy=strategy, max_concurrency=2, **resources)
            actors.append(options.remote(int(share["CPU"])))
        unnamed = [Worker(actor, f"worker {n} of {count}", "") for n, actor in enumerate(actors)]
        facts = Workers(ray, unnamed, int(share["CPU"])).results(
            [actor.facts.remote() for actor in actors]
        )
        members = [
            Worker(actor, _name(n, count, found), found["node"])
            for n, (actor, found) in enumerate(zip(actors, facts, strict=True))
        ]
        for member, found in zip(members, facts, strict=True):
            check_versions(member.name, found["versions"], versions())
        yield Workers(ray, members, int(share["CPU"]))
    finally:
        for actor in actors:
            ray.kill(actor)
        remove_placement_group(group)


def streamed(
    ray: Any,
    work: Callable[[Any, Sequence[Any]], Iterator[Any]],
    given: Any,
    shares: Sequence[Sequence[Any]],
    *,
    on_lost: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[Any, Any]]:
    """Runs `work(given, share)` for each share as a task of one CPU; yields results as they come.

    Args:
        ray: From `connected`.
        work: A generator function that workers can import; yields a result for each item of the
            share, in order.
        given: Sent once.
        shares: Items of each task.
        on_lost: Called with a line when a worker was lost; what is left of its share begins anew.

    Yields:
        Each item and its result.

    Raises:
        ValueError: If the work raised it.
        ClusterError: If it failed otherwise, a node has other versions, or workers of a share are
            lost three times without a result between.
    """
    _check_nodes(ray)
    held = [ray.put(given)]  # In a list, so that each process reads it once and not each task.
    task = ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")(_results)
    running = {task.remote(work, held, tuple(share)): list(share) for share in shares}
    lost = dict.fromkeys(running, 0)
    while running:
        (results, *_), _ = ray.wait(list(running), num_returns=1)
        left, losses = running[results], lost[results]
        try:
            result = ray.get(next(results))
        except StopIteration:
            del running[results]
            continue
        except ray.exceptions.RayTaskError as error:
            problem = error.cause
            if isinstance(problem, ValueError):
                raise ValueError(str(problem)) from None
            raise ClusterError(
                f"a worker failed: {type(problem).__name__}: {_line(problem)}"
            ) from None
        except ray.exceptions.RayError:
            del running[results]
            if losses == _LOSSES - 1:
                raise ClusterError(
                    f"a worker was lost {_LOSSES} times at {left[0]}, perhaps for want of memory; "
                    "what is finished is kept, and the same command goes on."
                ) from None
            on_lost(f"a worker was lost at {left[0]}, which begins anew.")
            results = task.remote(work, held, tuple(left))
            running[results], lost[results] = left, losses + 1
            continue
        lost[results] = 0
        yield left.pop(0), result


def _results(
    work: Callable[[Any, Sequence[Any]], Iterator[Any]], held: list[Any], share: Sequence[Any]
) -> Iterator[Any]:
    os.environ["NPROC"] = "1"  # Read when JAX starts its threads.
    yield from work(_kept(held[0].hex(), held[0]), share)


_KEPT: dict[str, Any] = {}


def _kept(name: str, reference: Any) -> Any:
    """Reads a value once in a process that does several tasks."""
    import ray

    if name not in _KEPT:
        _KEPT.clear()
        _KEPT[name] = ray.get(reference)
    return _KEPT[name]


def _check_nodes(ray: Any) -> None:
    """Refuses a cluster one of whose nodes has other versions."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes, probe = [node for node in ray.nodes() if node["Alive"]], _by_value().versions
    found = [
        ray.remote(num_cpus=0)(probe)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote()
        for node in nodes
    ]
    own = versions()
    for node, there in zip(nodes, ray.get(found), strict=True):
        place = f"{node['NodeManagerHostname']}, {node['NodeManagerAddress']}"
        check_versions(f"node {place}, {node['NodeID'][:8]},", there, own)


def _name(rank: int, count: int, facts: Mapping[str, Any]) -> str:
    node = f"{facts['host']}, {facts['address']}, {facts['node'][:8]}"
    return f"worker {rank} of {count} (process {facts['pid']} on node {node})"


def _share_with_patience(ray: Any, count: int, room: float) -> tuple[dict[str, float], list[Any]]:
    """Returns the resources of each worker, and the nodes, once there is room for all."""
    until = time.monotonic() + room
    while True:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        share = share_of([node["Resources"] for node in nodes], count)
        if share is not None:
            return share, nodes
        if time.monotonic() >= until:
            total = sum(int(node["Resources"].get("CPU", 0)) for node in nodes)
            raise ClusterError(
                f"there is no room for {count} workers: the cluster has {total} CPUs on "
                f"{len(nodes)} nodes."
            )
        time.sleep(0.5)


def versions() -> dict[str, str]:
    """Versions that all processes of a training must share, and a digest of this package."""
    return _by_value().versions()


def check_versions(name: str, found: Mapping[str, str], own: Mapping[str, str]) -> None:
    """Refuses a worker of other versions.

    Args:
        name: The worker.
        found: Its `versions`.
        own: Those of this process.

    Raises:
        ClusterError: If one differs or is missing; names it.
    """
    for package, version in own.items():
        if found[package] == version:
            continue
        if package == "source":
            raise ClusterError(
                f"{name} has another source of metajax {own['metajax']} than this process: install "
                "the same on all."
            )
        what = f"{package} {found[package]}" if found[package] else f"no {package}"
        raise ClusterError(f"{name} has {what}, this process {version}: install the same on all.")


def _by_value() -> Any:
    """Makes the class of a worker, which is no name of a module, so that it is pickled whole."""

    class Process:
        def __init__(self, cpus: int):
            import os

            # Read when JAX starts its threads; Ray does the same for OpenMP.
            os.environ["NPROC"] = str(cpus)
            self.work = None

        @staticmethod
        def versions() -> dict[str, str]:
            import hashlib
            import importlib
            import pathlib

            found = {}
            for name in ("metajax", "jax", "jaxlib"):
                try:
                    found[name] = importlib.import_module(name).__version__
                except ImportError:
                    found[name] = ""
            digest = hashlib.sha256()
            if found["metajax"]:
                folder = pathlib.Path(str(importlib.import_module("metajax").__file__)).parent
                for path in sorted(folder.rglob("*.py")):
                    digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
            return {**found, "source": digest.hexdigest()[:12]}

        def facts(self) -> dict[str, object]:
            import os
            import socket

            import ray

            return {
                "node": ray.get_runtime_context().get_node_id(),
                "address": ray.util.get_node_ip_address(),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "versions": self.versions(),
            }

        def begin(self, module: str, name: str, *arguments: object) -> None:
            import importlib

            self.work = getattr(importlib.import_module(module), name)(*arguments)

        def call(self, method: str, *arguments: object) -> object:
            return getattr(self.work, method)(*arguments)

    return Process


def _line(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return (str(text or error).strip().splitlines() or [type(error).__name__])[0]
