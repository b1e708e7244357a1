"""Exploration: policies with propensities, beliefs that learn, and off-policy evaluation.

Show a list in order to learn, know with which probability each item was shown, and learn from what
came back:

    >>> import jax, jax.numpy as jnp
    >>> from metajax.types import Posterior
    >>> vectors = jax.random.normal(jax.random.key(0), (6, 3))    # 6 items
    >>> person = Posterior(jnp.zeros(3), jnp.eye(3))              # nothing is known yet
    >>> policy = policy_of("linear_thompson", k=2, draws=200)
    >>> beliefs, mask = linear_beliefs(person, vectors), jnp.ones(6, bool)
    >>> slate = jax.jit(policy.show)(beliefs, mask, jax.random.key(1))
    >>> slate.shown.tolist(), bool((slate.propensity > 0).all()), policy.conditional
    ([True, True], True, False)
    >>> reward = jnp.array([1., 0.])
    >>> person = update_linear(person, vectors[slate.items], reward, noise=.25)
    >>> bool(linear_beliefs(person, vectors).variance.sum() < beliefs.variance.sum())
    True
"""

from metajax.exploration.beliefs import (
    BetaCounts,
    beta_beliefs,
    beta_from_moments,
    content_prior,
    linear_beliefs,
    update_counts,
    update_items,
    update_linear,
)
from metajax.exploration.policies import (
    beta_thompson,
    epsilon_greedy,
    greedy,
    linear_thompson,
    linear_ucb,
    policy_of,
    softmax,
    thompson,
    ucb,
    ucb1,
    ucb1_bounds,
    ucb_bounds,
)
from metajax.exploration.slates import Beliefs, Policy, Slate, reserved_slots

__all__ = [
    "Beliefs",
    "BetaCounts",
    "Policy",
    "Slate",
    "beta_beliefs",
    "beta_from_moments",
    "beta_thompson",
    "content_prior",
    "epsilon_greedy",
    "greedy",
    "linear_beliefs",
    "linear_thompson",
    "linear_ucb",
    "policy_of",
    "reserved_slots",
    "softmax",
    "thompson",
    "ucb",
    "ucb1",
    "ucb1_bounds",
    "ucb_bounds",
    "update_counts",
    "update_items",
    "update_linear",
]
