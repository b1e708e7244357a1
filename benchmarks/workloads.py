"""Workloads of the inner-loop benchmarks: a two-tower recommender and its tasks.

A user has 24 attributes and an item 20; towers `24 -> H -> H -> E` and `20 -> H -> E` embed
them, a predictor `2E -> H -> H -> 1` scores the pair. One meta-step adapts to every task's
support by plain SGD and moves the weights by Adam along the gradient of the mean query loss.

Each `*_program` gives a step and what it starts from: `step(carry, data) -> carry`. The carry
holds Adam's state, whose first moment after one step is a tenth of the meta-gradient: so the
very program that is timed is the one that is checked.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax import adaptation
from metajax.adaptation import Adjoint, Form
from metajax.learners import maml
from metajax.losses import squared_error
from metajax.networks import RatingNetwork, from_linen
from metajax.types import Examples, Inputs, MetaLearner, MetaState, Model, Task

__all__ = [
    "ADJOINTS",
    "EXACT",
    "FORMS",
    "INNER_RATE",
    "NAMED",
    "OUTER_RATE",
    "Program",
    "Work",
    "draw",
    "first_weights",
    "in_float64",
    "maml_of",
    "metajax_program",
    "model_of",
    "plain_program",
    "reference_gradient",
    "usual_program",
]

USER_ATTRIBUTES, ITEM_ATTRIBUTES = 24, 20
INNER_RATE, OUTER_RATE = 0.01, 1e-3

# What `maml` is given for each name.
ADJOINTS: dict[str, Adjoint] = {
    "reverse": adaptation.Reverse(),
    "reverse_remat": adaptation.Reverse(remat=True),
    "linearized": adaptation.Linearized(),
    "mixed": adaptation.Mixed(),
    "first_order": adaptation.FirstOrder(),
    "implicit": adaptation.Implicit(),
    "finite_difference": adaptation.FiniteDifference(),
}
# These give the same meta-gradient, up to rounding.
EXACT = ("reverse", "reverse_remat", "linearized", "mixed")
FORMS: tuple[Form, ...] = ("plain", "factored", "auto")


class Work(NamedTuple):
    """The size of one meta-step."""

    steps: int
    """Inner steps."""
    width: int
    """H."""
    tasks: int = 256
    support: int = 5
    query: int = 10

    @property
    def embedding(self) -> int:
        """E: 32 at H = 64, a quarter of H from 128 on."""
        return max(min(32, self.width // 2), self.width // 4)


NAMED = {"W1": Work(steps=1, width=64), "W2": Work(steps=1, width=256)}


class Program(NamedTuple):
    """One step of training, to be compiled."""

    step: Callable[[Any, Any], Any]
    """`step(carry, data) -> carry`."""
    carry: Any
    """What it starts from, Adam's state within."""
    data: Any
    unrolled: Callable[[Any, Any], Any] | None = None
    """The same step without loops, whose arithmetic XLA can count; None if it has none itself."""


def draw(work: Work, seed: int = 0) -> Task:
    """Draws tasks; a label is a product of user's and item's attributes, and noise."""
    rng = np.random.default_rng(seed)
    rows = work.support + work.query
    user = rng.normal(size=(work.tasks, 1, USER_ATTRIBUTES)).repeat(rows, axis=1)
    item = rng.normal(size=(work.tasks, rows, ITEM_ATTRIBUTES))
    mixing = rng.normal(size=(USER_ATTRIBUTES, ITEM_ATTRIBUTES)) / USER_ATTRIBUTES
    labels = np.einsum("tnu,ui,tni->tn", user, mixing, item) + rng.normal(size=item.shape[:2])

    def part(rows: slice) -> Examples:
        taken = labels[:, rows]
        index = jnp.zeros(taken.shape, jnp.int32)
        inputs = Inputs(jnp.float32(user[:, rows]), jnp.float32(item[:, rows]), index)
        return Examples(inputs, jnp.float32(taken), index == 0)

    return Task(part(slice(work.support)), part(slice(work.support, None)))


class _Layers(nn.Module):
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, name=f"layer_{i}")(x if i == 0 else nn.relu(x))
        return x


class _Towers(nn.Module):
    """The network written without this package, with the same names of parameters."""

    width: int
    embedding: int

    @nn.compact
    def __call__(self, user: jax.Array, item: jax.Array) -> jax.Array:
        h, e = self.width, self.embedding
        user = _Layers((h, h, e), name="user_tower")(user)
        item = _Layers((h, e), name="item_tower")(item)
        joined = jnp.concatenate([user, item], axis=-1)
        return _Layers((h, h, 1), name="predictor")(joined)[..., 0]


def first_weights(work: Work) -> dict[str, Any]:
    """Linen's own initialisation, the same for every method."""
    user, item = jnp.zeros((1, USER_ATTRIBUTES)), jnp.zeros((1, ITEM_ATTRIBUTES))
    variables: Any = _Towers(work.width, work.embedding).init(jax.random.key(0), user, item)
    return variables["params"]


def plain_program(work: Work, microbatch: int | None = None) -> Program:
    """One supervised step on all rows of all supports and queries."""
    tasks = draw(work)

    def rows(leaf: Callable[[Examples], jax.Array]) -> jax.Array:
        both = jnp.concatenate([leaf(tasks.support), leaf(tasks.query)], axis=1)
        return both.reshape(-1, *both.shape[2:])

    data = tuple(rows(leaf) for leaf in (_user, _item, _labels))

    def loss(params: Any, data: Any) -> jax.Array:
        return _mean_square(work, params, *data)

    parts = 1 if microbatch is None else work.tasks // microbatch
    return _trained_by_adam(work, loss, data, parts)


def model_of(work: Work, dtype: Any = None) -> Model:
    """This package's network of that size; its hidden layers compute in `dtype`."""
    h, e = work.width, work.embedding
    return from_linen(RatingNetwork((h, h, e), (h, e), (h, h), dtype=dtype))


def maml_of(
    work: Work,
    adjoint: str = "reverse",
    form: Form = "auto",
    dtype: Any = None,
    microbatch: int | None = None,
) -> MetaLearner:
    """This package's MAML of that network."""
    return maml(
        model_of(work, dtype),
        squared_error,
        inner=optax.sgd(INNER_RATE),
        outer=optax.adam(OUTER_RATE),
        steps=work.steps,
        adjoint=ADJOINTS[adjoint],
        form=form,
        microbatch=microbatch,
    )


def metajax_program(
    work: Work, adjoint: str = "reverse", form: Form = "auto", microbatch: int | None = None
) -> Program:
    """One update of this package's MAML."""

    def step(microbatch: int | None) -> Callable[[Any, Any], Any]:
        learner = maml_of(work, adjoint, form, microbatch=microbatch)
        return lambda state, tasks: learner.update(state, tasks)[0]

    params = first_weights(work)
    carry = MetaState(params, optax.adam(OUTER_RATE).init(params), jnp.zeros((), jnp.int32))
    unrolled = None if microbatch is None else step(None)
    return Program(step(microbatch), carry, draw(work), unrolled)


def usual_program(work: Work, microbatch: int | None = None) -> Program:
    """MAML as it is usually written in JAX: `vmap` over tasks of `scan` over steps."""

    def meta_loss(unroll: bool) -> Callable[[Any, Task], jax.Array]:
        each = jax.vmap(_task_loss(work, unroll), in_axes=(None, 0))
        return lambda params, tasks: jnp.mean(each(params, tasks))

    parts = 1 if microbatch is None else work.tasks // microbatch
    scanned = _trained_by_adam(work, meta_loss(False), draw(work), parts)
    unrolled = _trained_by_adam(work, meta_loss(True), scanned.data)
    return scanned._replace(unrolled=unrolled.step)


def reference_gradient(work: Work) -> dict[str, Any]:
    """The meta-gradient by the usual form in float64, a few tasks at a time."""
    with jax.enable_x64(True):
        params, tasks = in_float64((first_weights(work), draw(work)))
        gradient = jax.grad(_task_loss(work, unroll=False))

        @jax.jit
        def mean(params: Any, tasks: Task) -> Any:
            each = jax.lax.map(lambda task: gradient(params, task), tasks, batch_size=32)
            return jax.tree.map(lambda leaf: leaf.mean(axis=0), each)

        return jax.tree.map(np.asarray, mean(params, tasks))


def in_float64(tree: Any) -> Any:
    """Widens the float32 leaves, inside `jax.enable_x64(True)`."""

    def widened(leaf: jax.Array) -> jax.Array:
        return leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf

    return jax.tree.map(widened, tree)


def _task_loss(work: Work, unroll: bool) -> Callable[[Any, Task], jax.Array]:
    def loss(params: Any, examples: Examples) -> jax.Array:
        return _mean_square(work, params, _user(examples), _item(examples), _labels(examples))

    def query_loss(params: Any, task: Task) -> jax.Array:
        def step(params: Any, _: None) -> tuple[Any, None]:
            gradient = jax.grad(loss)(params, task.support)
            return jax.tree.map(lambda w, g: w - INNER_RATE * g, params, gradient), None

        params, _ = jax.lax.scan(step, params, length=work.steps, unroll=unroll)
        return loss(params, task.query)

    return query_loss


def _mean_square(
    work: Work, params: Any, user: jax.Array, item: jax.Array, labels: jax.Array
) -> jax.Array:
    scores: Any = _Towers(work.width, work.embedding).apply({"params": params}, user, item)
    return jnp.mean((scores - labels) ** 2)


def _trained_by_adam(
    work: Work, loss: Callable[[Any, Any], jax.Array], data: Any, parts: int = 1
) -> Program:
    """A step of Adam; the gradient of a mean, of so many equal parts of the data in turn."""
    optimizer = optax.adam(OUTER_RATE)

    def gradient(params: Any, data: Any) -> Any:
        if parts == 1:
            return jax.grad(loss)(params, data)

        def add(total: Any, part: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, jax.grad(loss)(params, part)), None

        cut = jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), data)
        total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), cut)
        return jax.tree.map(lambda leaf: leaf / parts, total)

    def step(
        gradient: Callable[[Any, Any], Any], carry: tuple[Any, Any], data: Any
    ) -> tuple[Any, Any]:
        params, opt_state = carry
        updates, opt_state = optimizer.update(gradient(params, data), opt_state)
        return optax.apply_updates(params, updates), opt_state

    params = first_weights(work)
    whole = None if parts == 1 else partial(step, jax.grad(loss))
    return Program(partial(step, gradient), (params, optimizer.init(params)), data, whole)


def _user(examples: Examples) -> jax.Array:
    return examples.inputs.user_features


def _item(examples: Examples) -> jax.Array:
    return examples.inputs.item_features


def _labels(examples: Examples) -> jax.Array:
    return examples.labels
