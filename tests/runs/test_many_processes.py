"""Training by several processes under Ray. The module starts one local Ray with a small store."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import checkpoint, cluster, evaluation, registry, runs
from metajax.cli.app import main
from metajax.data.datasets import load
from metajax.runs import data_parallel
from metajax.types import MetaState

needs_ray = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="ray is not installed: pip install 'metajax[ray]'",
    ),
]


NAMES = ("method", "protocol", "order", "k", "metric", "seeds", "users")


@pytest.fixture(scope="module")
def ray():
    """A cluster of two nodes, one CPU each, that this process is connected to."""
    cluster._imported()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        second = [nodes.add_node(**node)]
    with cluster.connected(str(nodes.address)):
        yield nodes, second
    nodes.shutdown()


@pytest.fixture(scope="module")
def settings(quick):
    return registry.with_changes(quick, updates=50)


@pytest.fixture(scope="module")
def dataset(settings):
    return load(settings.data)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, settings, dataset):
    """The rows of a training by one process."""
    rows = []
    run, progress = runs.create(tmp_path_factory.mktemp("alone") / "run", settings, dataset)
    runs.train_run(run, progress, on_row=rows.append)
    return rows


@pytest.fixture(scope="module")
def together(ray, tmp_path_factory, settings, dataset):
    """The folder, last progress and rows of a training by two processes."""
    rows = []
    run, progress = runs.create(tmp_path_factory.mktemp("together") / "run", settings, dataset)
    last, ended = runs.train_run(runs.DataParallel(run, 2), progress, on_row=rows.append)
    assert ended
    return run.folder, last, rows


def same_bits(one, other):
    return all(map(np.array_equal, *map(jax.tree.leaves, (one, other))))


def a_worker(name=b"ray::Process"):
    """Returns the id of a process that holds a worker, by the name that Ray gives it."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if name in path.read_bytes():
                return int(path.parent.name)
    raise AssertionError


class TestTwoProcesses:
    pytestmark = needs_ray

    def test_the_losses_are_those_of_one(self, alone, together):
        _, _, rows = together
        assert [row.step for row in rows] == [row.step for row in alone] == list(range(5, 51, 5))
        for name in ("loss", "validation"):
            pairs = [[getattr(row, name) for row in found] for found in (rows, alone)]
            two, one = ([value for value in values if value is not None] for values in pairs)
            assert len(two) == len(one) > 0
            assert two == pytest.approx(one, rel=1e-6)
        assert rows[0].loss != rows[-1].loss

    def test_a_killed_worker_costs_a_dispatch_and_no_bit(
        self, ray, together, settings, dataset, tmp_path
    ):
        lines, rows, killed = [], [], []
        run, progress = runs.create(tmp_path / "run", settings, dataset)

        def kill_once(row):
            rows.append(row)
            if row.step == 20:
                killed.append(a_worker())
                os.kill(killed[0], signal.SIGKILL)

        spread = runs.DataParallel(run, 2, on_lost=lines.append)
        last, _ = runs.train_run(spread, progress, on_row=kill_once)
        _, expected, expected_rows = together
        assert same_bits(last, expected)
        assert rows == expected_rows
        [line] = lines
        assert f"(process {killed[0]} on node " in line
        assert line.endswith("was lost: its process has ended. All begin again from update 20.")

    def test_a_killed_run_resumes_to_the_same_bits_and_leaves_no_process(
        self, together, settings, tmp_path
    ):
        _, expected, _ = together
        command = [sys.executable, "-m", "metajax", "train"]
        copy = tmp_path / "run"
        run, progress = runs.create(copy, settings, load(settings.data))
        del run, progress
        ends = [f"--resume={copy}", "--workers=2", "--no-report"]
        begun = subprocess.Popen([*command, *ends], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while not checkpoint.steps(copy / "checkpoints")[-1] >= 10:
            assert time.monotonic() < until
            assert begun.poll() is None
            time.sleep(0.02)
        children = descendants(begun.pid)
        begun.kill()
        begun.wait()
        assert len(children) > 4
        until = time.monotonic() + 60
        while left := [pid for pid in children if Path(f"/proc/{pid}").exists()]:
            assert time.monotonic() < until, left
            time.sleep(0.1)
        assert runs.resumed(runs.open_run(copy)).state.step < 50
        run = runs.open_run(copy)
        last, _ = runs.train_run(runs.DataParallel(run, 2), runs.resumed(run))
        assert same_bits(last, expected)

    def test_a_comparison_is_that_of_one_process_and_goes_on_after_a_loss(
        self, ray, settings, dataset, tmp_path
    ):
        methods, lines, stages = ["item_mean", "maml"], [], []
        options = {
            "protocols": ["P1"], "folds": [0, 1], "trials": 1,
            "changes": {"updates": 10, "rank": 2, "steps": 1},
        }  # fmt: skip
        here = evaluation.compare(dataset, methods, **options)

        def kill_once(stage):
            stages.append(stage)
            if len(stages) == 1:
                os.kill(a_worker(b"ray::_results"), signal.SIGKILL)

        there = evaluation.compare(
            dataset, methods, **options, folder=tmp_path, ray="auto", on_stage=kill_once,
            on_lost=lines.append,
        )  # fmt: skip
        assert len(there.records) == len(here.records) > 0
        for one, other in zip(here.records, there.records, strict=True):
            if one.metric != "adapt_us":  # A time.
                assert one.mean == pytest.approx(other.mean, rel=1e-4)
            named = [{n: v for n, v in vars(r).items() if n in NAMES} for r in (one, other)]
            assert named[0] == named[1]
        assert len(stages) == 5
        [line] = lines
        assert line.startswith("a worker was lost at ")
        # All of it is kept: nothing is asked of the cluster.
        again = evaluation.compare(dataset, methods, **options, folder=tmp_path, ray="127.0.0.1:1")
        assert again.records == there.records

    def test_a_lost_node_is_named_and_training_goes_on_once_another_is_there(
        self, ray, together, settings, dataset, tmp_path
    ):
        nodes, second = ray
        lines = []
        run, progress = runs.create(tmp_path / "run", settings, dataset)

        def remove_once(row):
            if row.step == 20:
                nodes.remove_node(second.pop(), allow_graceful=False)
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
                    second.append(nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20))

        spread = runs.DataParallel(run, 2, on_lost=lines.append)
        last, _ = runs.train_run(spread, progress, on_row=remove_once)
        assert same_bits(last, together[1])
        [line] = lines
        assert line.startswith("worker ")
        assert line.endswith("was lost: the node is gone. All begin again from update 20.")

    def test_a_parameter_server_with_one_worker_trains_as_one_process(
        self, ray, alone, settings, dataset, tmp_path
    ):
        rows, stale = [], []
        run, progress = runs.create(tmp_path / "run", settings, dataset)
        server = runs.ParameterServer(run, 1, on_staleness=stale.extend)
        runs.train_run(server, progress, on_row=rows.append)
        losses = [[(row.step, row.loss) for row in found] for found in (rows, alone)]
        # A dispatch may have brought more updates than were asked for.
        assert rows[-1].step == 50
        assert stale == [0] * 50
        steps = [0, *(row.step for row in rows)]
        weighed = sum(row.loss * n for row, n in zip(rows, np.diff(steps), strict=True)) / 50
        assert weighed == pytest.approx(np.mean([row.loss for row in alone]), rel=1e-6), losses

    def test_workers_of_a_parameter_server_go_on_without_one_that_was_killed(
        self, ray, settings, dataset, tmp_path
    ):
        lines, stale, rows = [], [], []
        long = registry.with_changes(settings, updates=600, per_dispatch=20, validate_every=200)
        run, progress = runs.create(tmp_path / "run", long, dataset)

        def kill_once(row):
            rows.append(row)
            if len(rows) == 1:
                os.kill(a_worker(), signal.SIGKILL)

        server = runs.ParameterServer(run, 2, on_lost=lines.append, on_staleness=stale.extend)
        last, ended = runs.train_run(server, progress, on_row=kill_once)
        assert ended
        assert last.state.step == len(stale) == 600
        assert 0 < max(stale) < 20
        [line] = lines
        assert line.endswith("was lost: its process has ended. 1 go on.")


def descendants(pid):
    """Lists the processes that a process has started, and those that these have.

    Ray's agents are left out: once its head is gone they try to report that for a minute.
    """
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(after[1]), []).append(int(path.parent.name))
    found, left = [], [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return [n for n in found if b"Agent" not in Path(f"/proc/{n}/cmdline").read_bytes()]


@pytest.mark.parametrize("times", [1, 3])
def test_a_loss_begins_anew_from_the_last_state_but_not_for_ever(monkeypatch, times):
    lines, lost = [], iter([cluster.LostError("worker 1 was lost: the node is gone.")] * times)

    class Workers:
        def all(self, method, *arguments):
            if method == "dispatch":
                for error in lost:
                    raise error
                return [(("state", arguments), {}), None]
            return restored.append(arguments)

    restored = []
    group = data_parallel._Group(Putting, 2, None, contextlib.ExitStack(), lines.append)
    monkeypatch.setattr(group, "_launched", Workers)
    state = MetaState(np.zeros(2), (), jnp.int32(20))
    if times == 1:
        assert group.make(state, 5) == (("state", (5,)), {})
        assert lines == ["worker 1 was lost: the node is gone. All begin again from update 20."]
        assert len(restored) == 2
    else:
        line = (
            "^worker 1 was lost: the node is gone. Lost 3 times at update 20; what is saved stays.$"
        )
        with pytest.raises(cluster.ClusterError, match=line):
            group.make(state, 5)
        assert len(lines) == 2


class Putting:
    """In the place of Ray, where values are only put."""

    put = staticmethod(lambda value: value)


@pytest.mark.parametrize(
    ("workers", "line"),
    [
        (9, "workers must divide the tasks of an update, 8, got 9."),
        (3, "workers must divide the tasks of an update, 8, got 3."),
        (0, "workers must be >= 1, got 0."),
    ],
)
def test_workers_that_do_not_suit_the_tasks_are_refused(quick, tmp_path, capsys, workers, line):
    run = tmp_path / "run"
    options = [f"--data={quick.data}", f"--run={run}", "--tasks=8", f"--workers={workers}"]
    assert main(["train", *options]) == 2
    assert capsys.readouterr().err == f"metajax: {line}\n"
    assert not run.exists()


def test_closed_forms_are_refused(quick, tmp_path, capsys):
    options = [f"--data={quick.data}", "--method=eb_fold_in", "--workers=2"]
    assert main(["train", *options, f"--run={tmp_path / 'run'}"]) == 2
    assert "eb_fold_in is a closed form." in capsys.readouterr().err


def test_a_missing_ray_names_the_extra(quick, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    run = tmp_path / "run"
    assert main(["train", f"--data={quick.data}", f"--run={run}", "--workers=2"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "metajax: many processes need ray: install the extra, 'metajax[ray]'."
    assert not run.exists()


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("nowhere", "ray must be auto, local or HOST:PORT of a cluster's head, got 'nowhere'."),
        ("ray://h:1", "ray must be auto, local or HOST:PORT of a cluster's head, got 'ray://h:1'."),
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1: Connection refused."),
    ],
)
def test_an_address_without_a_cluster_is_refused(address, line, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", NotConnected)
    with pytest.raises((ValueError, cluster.ClusterError)) as caught, cluster.connected(address):
        pass
    assert str(caught.value) == line


class NotConnected:
    """In the place of Ray, where nothing may be asked of it."""

    @staticmethod
    def is_initialized():
        return False


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"jax": "0.1.0"}, "worker 1 has jax 0.1.0, this process {jax}"),
        ({"metajax": ""}, "worker 1 has no metajax, this process {metajax}"),
        ({"source": "0"}, "worker 1 has another source of metajax {metajax} than this process"),
    ],
)
def test_a_worker_of_another_version_is_refused(changed, line):
    own = cluster.versions()
    cluster.check_versions("worker 1", own, own)
    with pytest.raises(cluster.ClusterError) as caught:
        cluster.check_versions("worker 1", own | changed, own)
    assert str(caught.value) == f"{line.format(**own)}: install the same on all."


@pytest.mark.parametrize(
    ("nodes", "workers", "share"),
    [
        ([{"CPU": 8.0}], 2, {"CPU": 4}),
        ([{"CPU": 4.0}, {"CPU": 2.0}], 2, {"CPU": 2}),
        ([{"CPU": 4.0}, {"CPU": 2.0}], 7, None),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0}], 2, {"CPU": 8, "GPU": 1}),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0}], 3, {"CPU": 8}),
        ([], 1, None),
    ],
)
def test_workers_share_the_nodes_equally(nodes, workers, share):
    assert cluster.share_of(nodes, workers) == share
