import json
import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from metajax import distributed

# Two updates of a small MAML; prints losses, the meta-gradient's norm and the parameters.
PROGRAM = """
import json, sys
import jax
devices, process, processes, port, mesh_size = map(int, sys.argv[1:])
if processes > 1:
    jax.distributed.initialize(f"localhost:{port}", processes, process)
    assert jax.process_count() == processes
assert len(jax.devices()) == devices * processes
import jax.numpy as jnp, numpy as np, optax
from metajax import distributed, losses, maml, networks
from metajax.types import Examples, Inputs, Task

def examples(seed, n):
    rng = np.random.default_rng(seed)
    inputs = Inputs(*(rng.normal(size=(16, n, d)).astype("f") for d in (3, 2)),
                    rng.integers(0, 5, (16, n), np.int32))
    return Examples(inputs, rng.normal(size=(16, n)).astype("f"), rng.random((16, n)) < 0.8)

tasks = Task(examples(0, 3), examples(1, 4))
network = networks.RatingNetwork((8, 4), (8, 4), (8,), items=5, identity_width=3, direct=True)
learner = maml(networks.from_linen(network), losses.squared_error, inner=optax.sgd(0.1),
               outer=optax.sgd(0.5), steps=2)
# On the host: the first state must be the same on every process.
state = jax.device_get(jax.jit(learner.init)(jax.random.key(0), tasks))
mesh = distributed.task_mesh(mesh_size)
state, tasks = distributed.replicated(state, mesh), distributed.sharded(tasks, mesh)
assert tasks.support.labels.sharding.shard_shape(tasks.support.labels.shape)[0] == 16 // mesh_size
update = jax.jit(learner.update)
# Where the mesh is set the gradient is one exchange, and the same but for the order of sums.
with jax.set_mesh(mesh):
    once, metrics = update(state, tasks)
    if processes * devices > 1:
        lines = update.lower(state, tasks).compile().as_text().splitlines()
        sums = [line.split(" all-reduce(")[0] for line in lines if " all-reduce(" in line]
        size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        assert sorted("f32" in line for line in sums) == [False, True], sums
        assert any(f"= f32[{size + 1}]" in line for line in sums), sums
after, expected = update(state, tasks)
for one, other in zip(*map(jax.tree.leaves, ((once, metrics), (after, expected)))):
    np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-5, atol=1e-6)
found = []
for _ in range(2):
    state, metrics = update(state, tasks)
    found += [float(metrics["loss"]), float(metrics["gradient_norm"])]
leaves = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(state.params)]
if process == 0:
    print(json.dumps(found + np.concatenate(leaves).tolist()))
"""


# One update's loss and gradient, by sharding alone and by `shard_map`.
MAPPED = """
import json
import jax, jax.numpy as jnp, optax
from jax.sharding import PartitionSpec as P
from metajax import distributed, losses
from metajax.adaptation import gradient_steps
from metajax.types import Examples, Task

def score(params, rows):
    return jnp.tanh(rows @ params)

def examples(key):
    keys = jax.random.split(key)
    rows, labels = jax.random.normal(keys[0], (16, 4, 3)), jax.random.normal(keys[1], (16, 4))
    return Examples(rows, labels, jnp.ones((16, 4), bool))

inner_loss = losses.on_examples(score, losses.squared_error)
steps = gradient_steps(inner_loss, optax.sgd(0.2), 2, predict=score)

def of_task(params, task):
    adapted = steps.adapt(params, task.support)
    return jnp.mean(jnp.square(score(adapted, task.query.inputs) - task.query.labels))

def both(params, tasks):
    mean = lambda params: jnp.mean(jax.vmap(of_task, in_axes=(None, 0))(params, tasks))
    return jax.value_and_grad(mean)(params)

def obvious(params, tasks):
    return jax.lax.pmean(both(params, tasks), "task")

def varying(params, tasks):
    return obvious(jax.lax.pcast(params, "task", to="varying"), tasks)

params = jnp.array([0.5, -1.0, 2.0])
tasks = Task(*map(examples, jax.random.split(jax.random.key(0))))
mesh = distributed.task_mesh()
spread = distributed.replicated(params, mesh), distributed.sharded(tasks, mesh)
found = {"one device": jax.jit(both)(params, tasks), "sharded": jax.jit(both)(*spread)}
for function in (obvious, varying):
    mapped = jax.shard_map(function, mesh=mesh, in_specs=(P(), P("task")), out_specs=P())
    found[function.__name__] = jax.jit(mapped)(*spread)
print(json.dumps({name: [float(v), *g.tolist()] for name, (v, g) in found.items()}))
"""


def start(devices, *, program=PROGRAM, process=0, processes=1, port=0, mesh=None):
    flags = f"--xla_force_host_platform_device_count={devices}"
    size = devices * processes if mesh is None else mesh
    numbers = [str(n) for n in (devices, process, processes, port, size)]
    return subprocess.Popen(
        [sys.executable, "-c", program, *numbers],
        env={
            **os.environ,
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}",
            "JAX_PLATFORMS": "cpu",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def one_device():
    return result(start(1))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 8])
def test_many_devices_equal_one(one_device, devices):
    assert result(start(devices)) == pytest.approx(one_device, rel=1e-5, abs=1e-6)


@pytest.mark.slow
def test_two_processes_equal_one(one_device):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    peers = [start(2, process=n, processes=2, port=port) for n in range(2)]
    found = result(peers[0])
    peers[1].communicate(timeout=300)
    assert peers[1].returncode == 0
    assert found == pytest.approx(one_device, rel=1e-5, abs=1e-6)


@pytest.mark.slow
def test_shard_map_sums_inner_gradients_unless_parameters_vary_and_sharding_does_not():
    found = result(start(8, program=MAPPED))
    expected = pytest.approx(found["one device"], rel=1e-5, abs=1e-6)
    assert found["sharded"] == expected
    assert found["varying"] == expected
    # The gradient of what is replicated is summed over the devices, in the inner steps too.
    assert found["obvious"][0] != pytest.approx(found["one device"][0], rel=0.01)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_mesh_gathers_plainly_only_where_its_axes_are_automatic(kind):
    mesh = distributed.task_mesh(1)
    assert mesh.axis_types == (AxisType.Auto,)
    if kind is AxisType.Explicit:
        mesh = jax.make_mesh((1,), ("task",), axis_types=(kind,))
    table = distributed.replicated(jnp.arange(10.0).reshape(5, 2), mesh)
    items = distributed.sharded(jnp.array([3, 1, 3]), mesh)
    gather = jax.jit(lambda table, items: table[items])
    if kind is AxisType.Explicit:
        with pytest.raises(Exception, match="sharding could not be resolved"):
            gather(table, items)
    else:
        np.testing.assert_array_equal(gather(table, items), [[6, 7], [2, 3], [6, 7]])


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_refused():
    process = start(3)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "tasks must be a multiple of the devices (3), got 16." in err


def test_more_devices_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"^devices must be in \[1, \d+\], got 99\.$"):
        distributed.task_mesh(99)


def test_a_mesh_without_the_axis_of_tasks_is_refused():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    with pytest.raises(ValueError, match=r"^mesh must have the axis 'task', .* got 'data'\.$"):
        distributed.sharded(jnp.zeros((4, 2)), mesh)
