"""Maps from the embeddings of one domain to those of another, fitted to matched rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from metajax.cross_domain.overlap import check_overlap
from metajax.networks.linen import init_params
from metajax.types import Params

__all__ = ["EmbeddingMap", "fit_map", "map_rows"]


class EmbeddingMap(nn.Module):
    """A linear map of embeddings, plus a hidden layer of tanh whose output is initially 0.

    Attributes:
        width: Width of the embeddings of the target.
        hidden: Width of the hidden layer; 0 for a linear map.
    """

    width: int
    hidden: int = 0

    @nn.compact
    def __call__(self, rows: jax.Array) -> jax.Array:
        """Maps embeddings of the source `[..., F]` to `[..., width]`."""
        zeros = nn.initializers.zeros_init()
        mapped = nn.Dense(self.width, kernel_init=zeros, name="linear")(rows)
        if self.hidden:
            raised = nn.tanh(nn.Dense(self.hidden, name="hidden")(rows))
            out = nn.Dense(self.width, use_bias=False, kernel_init=zeros, name="correction")
            mapped += out(raised)
        return mapped


def fit_map(
    source: ArrayLike,
    target: ArrayLike,
    overlap: np.ndarray | Sequence[Sequence[int]],
    *,
    hidden: int = 0,
    ridge: float = 1.0,
    steps: int = 300,
    rate: float = 0.01,
    seed: int = 0,
) -> Params:
    """Fits a map to users, or to items, of both domains.

    Minimises the mean squared distance between mapped and target embeddings. The linear map is the
    ridge regression in closed form, with an offset that is not penalised; a hidden layer is then
    trained together with it by Adam on all pairs at once.

    Args:
        source: `[n, F]` embeddings of the source.
        target: `[m, G]` embeddings of the target.
        overlap: `[p, 2]` matched rows of the source and of the target, as from `matched_rows`.
        hidden: Width of the hidden layer; 0 for a linear map. The paper takes 2 F.
        ridge: Penalty of the linear map's weights, in squared embeddings, >= 0.
        steps: Optimizer steps with a hidden layer, >= 1.
        rate: Learning rate of the optimizer, > 0.
        seed: Seed of the hidden layer's initial weights.

    Returns:
        Parameters of an `EmbeddingMap`, for `map_rows`.

    Raises:
        ValueError: If an argument is out of range, or as `check_overlap`.

    References:
        Man, Shen, Jin and Cheng, Cross-Domain Recommendation: An Embedding and Mapping Approach,
        IJCAI 2017, the section on latent space mapping. Differs: the network also has a linear
        path, initialised by the closed form, and is fitted to all pairs at once; the caller
        selects the entities to learn from, by `overlap`.

    Example:
        >>> users = jax.random.normal(jax.random.key(0), (20, 2))
        >>> params = fit_map(users, users[:, ::-1] + 1, [(u, u) for u in range(20)], ridge=0.0)
        >>> [round(float(x), 3) for x in map_rows(params, jnp.array([[3.0, 5.0]]))[0]]
        [6.0, 4.0]
    """
    x, y = jnp.asarray(source, jnp.float32), jnp.asarray(target, jnp.float32)
    for name, value, least in (("hidden", hidden, 0), ("ridge", ridge, 0), ("steps", steps, 1)):
        if not value >= least:
            raise ValueError(f"{name} must be >= {least}, got {value}.")
    if not rate > 0:
        raise ValueError(f"rate must be > 0, got {rate}.")
    rows = check_overlap(overlap, len(x), len(y))
    x, y = x[rows[:, 0]], y[rows[:, 1]]
    module = EmbeddingMap(y.shape[1], hidden)
    params = {**init_params(module, jax.random.key(seed), x), "linear": _regression(x, y, ridge)}
    if not hidden:
        return params
    optimizer = optax.adam(rate)

    def distance(params: Params) -> jax.Array:
        mapped: Any = module.apply({"params": params}, x)
        # The penalty of the closed form.
        penalty = ridge * jnp.sum(jnp.square(params["linear"]["kernel"])) / len(x)
        return jnp.mean(jnp.sum(jnp.square(mapped - y), axis=1)) + penalty

    def step(carried: Any, _: None) -> tuple[Any, None]:
        params, state = carried
        updates, state = optimizer.update(jax.grad(distance)(params), state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return params


def map_rows(params: Params, rows: ArrayLike) -> jax.Array:
    """Maps embeddings of the source to the target.

    Args:
        params: As from `fit_map`.
        rows: `[..., F]`.

    Returns:
        `[..., G]`.
    """
    module = EmbeddingMap(
        params["linear"]["kernel"].shape[1],
        params["hidden"]["kernel"].shape[1] if "hidden" in params else 0,
    )
    mapped: Any = module.apply({"params": params}, jnp.asarray(rows, jnp.float32))
    return mapped


def _regression(x: jax.Array, y: jax.Array, ridge: float) -> Mapping[str, jax.Array]:
    """Regresses `[p, G]` on `[p, F]` with an offset."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean_x[None], y - mean_y[None]
    # Least squares of stacked rows: without a ridge, directions without data stay 0.
    penalty = jnp.sqrt(ridge) * jnp.eye(x.shape[1])
    x = jnp.concatenate([x, penalty])
    y = jnp.concatenate([y, jnp.zeros((len(penalty), y.shape[1]))])
    kernel = jnp.linalg.lstsq(x, y)[0]
    return {"kernel": kernel, "bias": mean_y - mean_x @ kernel}
