"""One meta-step in PyTorch, in each way that its users write it. Needs PyTorch.

All of them take the same tasks and weights as the JAX forms, and Adam moves the weights.
"""

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

# A cache of compiled programs would hide what compiling costs. Read when torch is imported.
os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"

import numpy as np
import torch  # pyrefly: ignore[missing-import]
from flax import traverse_util
from torch.func import functional_call, grad, vmap  # pyrefly: ignore[missing-import]
from workloads import INNER_RATE, OUTER_RATE, Work, draw, first_weights

__all__ = ["PEERS", "Peer", "build"]

_ALL_THREADS = torch.get_num_threads()

# A method's meta-gradient: `write(net, data) -> None` leaves it in the `grad` of the parameters.
Write = Callable[[Any, Any], None]


class Peer(NamedTuple):
    """A meta-step ready to run."""

    run: Callable[[], None]
    """Makes one meta-step further and waits for it."""
    meta_gradient: Callable[[], dict[str, np.ndarray]]
    """The gradient of the first step, by parameter; called before any `run`."""
    compile_s: float | None
    """Seconds of compiling, the first run included; None where nothing is compiled."""
    threads: int
    """With how many it was faster: one, or PyTorch's own choice."""


class _Layers(torch.nn.Module):
    def __init__(self, first: int, widths: tuple[int, ...]):
        super().__init__()
        for i, (a, b) in enumerate(zip((first, *widths), widths, strict=False)):
            self.add_module(f"layer_{i}", torch.nn.Linear(a, b))

    def forward(self, x: Any) -> Any:
        for i, layer in enumerate(self.children()):
            x = layer(x if i == 0 else torch.relu(x))
        return x


class _Towers(torch.nn.Module):
    def __init__(self, work: Work, user: int, item: int):
        super().__init__()
        h, e = work.width, work.embedding
        self.user_tower = _Layers(user, (h, h, e))
        self.item_tower = _Layers(item, (h, e))
        self.predictor = _Layers(2 * e, (h, h, 1))

    def forward(self, user: Any, item: Any) -> Any:
        joined = torch.cat([self.user_tower(user), self.item_tower(item)], dim=-1)
        return self.predictor(joined)[..., 0]


def build(method: str, work: Work, *, double: bool = False) -> Peer:
    """Prepares a method; see `PEERS` for the names. In double it is to be checked, not timed."""
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tasks = draw(work)
    data = tuple(
        torch.from_numpy(np.array(leaf)).to(place)
        for examples in tasks
        for leaf in (*examples.inputs[:2], examples.labels)
    )
    net = _Towers(work, data[0].shape[-1], data[1].shape[-1]).to(place)
    net.load_state_dict(_from_jax(first_weights(work)))
    if double:
        net, data = net.double(), tuple(leaf.double() for leaf in data)
    # Held here: some methods put other tensors into the module meanwhile.
    named = dict(net.named_parameters())
    outer = torch.optim.Adam(named.values(), lr=OUTER_RATE)
    write = PEERS[method](work)
    threads = _ALL_THREADS

    def backward() -> None:
        torch.set_num_threads(threads)
        outer.zero_grad()
        write(net, data)

    def wait() -> None:
        if place.type == "cuda":
            torch.cuda.synchronize()

    def run() -> None:
        backward()
        outer.step()
        wait()

    def meta_gradient() -> dict[str, np.ndarray]:
        backward()
        return _to_jax({name: parameter.grad for name, parameter in named.items()})

    compile_s = None
    if method == "torch_compile":
        start = time.perf_counter()
        backward()
        wait()
        compile_s = time.perf_counter() - start
    seconds = {}
    # Threads that wait for each other at every small operation can cost a hundred times the work.
    for threads in () if double else (1, _ALL_THREADS):
        backward()
        wait()
        start = time.perf_counter()
        backward()
        wait()
        seconds[threads] = time.perf_counter() - start
    threads = min(seconds, key=lambda count: seconds[count], default=_ALL_THREADS)
    return Peer(run, meta_gradient, compile_s, threads)


def _func(work: Work, compile: Callable[[Any], Any] = lambda function: function) -> Write:
    """`vmap` over tasks of `grad`, the module as a function of its parameters."""

    def prepare(net: Any) -> Any:
        def loss(params: Any, user: Any, item: Any, labels: Any) -> Any:
            return ((functional_call(net, params, (user, item)) - labels) ** 2).mean()

        def query_loss(params: Any, support: Any, query: Any) -> Any:
            for _ in range(work.steps):
                gradient = grad(loss)(params, *support)
                params = {name: w - INNER_RATE * gradient[name] for name, w in params.items()}
            return loss(params, *query)

        def meta_loss(params: Any, data: Any) -> Any:
            return vmap(query_loss, in_dims=(None, 0, 0))(params, data[:3], data[3:]).mean()

        return compile(grad(meta_loss))

    gradient: Any = None

    def write(net: Any, data: Any) -> None:
        nonlocal gradient
        gradient = gradient or prepare(net)
        found = gradient({name: w.detach() for name, w in net.named_parameters()}, data)
        for name, parameter in net.named_parameters():
            parameter.grad = found[name]

    return write


def _compiled(work: Work) -> Write:
    return _func(work, torch.compile)


def _loop(work: Work) -> Write:
    """A Python loop over tasks, weights cloned and moved by hand, as learn2learn does."""

    def write(net: Any, data: Any) -> None:
        named = dict(net.named_parameters())
        for support, query in _each(data):
            fast = {name: w.clone() for name, w in named.items()}
            for _ in range(work.steps):
                loss = _mean_square(functional_call(net, fast, support[:2]), support)
                gradient = torch.autograd.grad(loss, tuple(fast.values()), create_graph=True)
                moved = zip(fast.items(), gradient, strict=True)
                fast = {name: w - INNER_RATE * g for (name, w), g in moved}
            loss = _mean_square(functional_call(net, fast, query[:2]), query)
            (loss / work.tasks).backward()

    return write


def _higher(work: Work) -> Write:
    """A loop over tasks by higher's differentiable optimizers."""
    import higher  # pyrefly: ignore[missing-import]

    def write(net: Any, data: Any) -> None:
        inner = torch.optim.SGD(net.parameters(), lr=INNER_RATE)
        for support, query in _each(data):
            with higher.innerloop_ctx(net, inner, copy_initial_weights=False) as (fast, steps):
                for _ in range(work.steps):
                    steps.step(_mean_square(fast(*support[:2]), support))
                (_mean_square(fast(*query[:2]), query) / work.tasks).backward()

    return write


def _torchopt(work: Work) -> Write:
    """A loop over tasks by TorchOpt's differentiable optimizers."""
    import torchopt  # pyrefly: ignore[missing-import]

    def write(net: Any, data: Any) -> None:
        inner = torchopt.MetaSGD(net, lr=INNER_RATE)
        first = torchopt.extract_state_dict(net, by="reference")
        first_inner = torchopt.extract_state_dict(inner, by="reference")
        for support, query in _each(data):
            for _ in range(work.steps):
                inner.step(_mean_square(net(*support[:2]), support))
            (_mean_square(net(*query[:2]), query) / work.tasks).backward()
            torchopt.recover_state_dict(net, first)
            torchopt.recover_state_dict(inner, first_inner)

    return write


PEERS: dict[str, Callable[[Work], Write]] = {
    "torch_func": _func,
    "torch_compile": _compiled,
    "torch_loop": _loop,
    "higher": _higher,
    "torchopt": _torchopt,
}


def _each(data: Any) -> Any:
    for task in zip(*data, strict=True):
        yield task[:3], task[3:]


def _mean_square(scores: Any, examples: Any) -> Any:
    return ((scores - examples[2]) ** 2).mean()


def _from_jax(weights: Any) -> dict[str, Any]:
    flat = traverse_util.flatten_dict(weights, sep=".")
    return {
        name.replace("kernel", "weight"): torch.from_numpy(np.array(leaf).T.copy())
        for name, leaf in flat.items()
    }


def _to_jax(named: dict[str, Any]) -> dict[str, np.ndarray]:
    return {
        name.replace(".", "/").replace("weight", "kernel"): leaf.cpu().numpy().T
        for name, leaf in named.items()
    }
