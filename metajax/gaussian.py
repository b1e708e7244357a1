"""Posteriors of Gaussian linear models."""

import jax
import jax.numpy as jnp

from metajax.types import Evidence, Examples, Posterior

__all__ = ["ridge_posterior"]


def ridge_posterior(found: Evidence, seen: Examples, before: jax.Array | None = None) -> Posterior:
    """Returns the posterior of a user with a normal prior of unit covariance.

    Args:
        found: What is known of the interactions beforehand.
        seen: The interactions; padding tells nothing.
        before: `[F]` prior mean; None means 0.

    Returns:
        The posterior, as in `ridge_head`.
    """
    design = jnp.where(seen.mask[:, None], found.design, 0)
    before = jnp.zeros(design.shape[1], design.dtype) if before is None else before
    surprise = jnp.where(seen.mask, seen.labels - found.expected, 0) - design @ before
    noise = found.noise if found.power is None else found.noise / found.power
    weighed = design / jnp.where(seen.mask, noise, 1)[:, None]
    precision = jnp.eye(design.shape[1], dtype=design.dtype) + weighed.T @ design
    covariance = _inverse(precision)
    return Posterior(before + covariance @ (weighed.T @ surprise), covariance)


@jax.custom_jvp
def _inverse(matrix: jax.Array) -> jax.Array:
    """Inverts a positive definite matrix `[F, F]`.

    Its derivative is products alone. Left to itself it would be more triangular solutions side by
    side, and two batches of those at once can block the threads of XLA's CPU client for good:
    each waits, on a thread of the pool, for parts of its batch that no thread is left to work on.
    """
    root = jax.scipy.linalg.cho_factor(matrix)
    return jax.scipy.linalg.cho_solve(root, jnp.eye(len(matrix), dtype=matrix.dtype))


@_inverse.defjvp
def _inverse_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    inverse = _inverse(*primals)
    return inverse, -inverse @ tangents[0] @ inverse
