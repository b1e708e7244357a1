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

Ask of a log how another policy would have done, with an interval and reasons for doubt:

    >>> import numpy as np
    >>> log = LoggedFeedback(action=np.arange(300) % 3, reward=np.arange(300) % 3 == 2,
    ...     propensity=np.full(300, 1 / 3))
    >>> found = evaluate(log, [.1, .1, .8], "snips")
    >>> round(found.value, 3), found.low < found.value < found.high, round(found.ess), found.notes
    (0.8, True, 152, ())
"""

from metajax.exploration.beliefs import (
    BetaCounts,
    beta_beliefs,
    beta_from_moments,
    content_prior,
    linear_beliefs,
    model_beliefs,
    update_counts,
    update_items,
    update_linear,
)
from metajax.exploration.first_days import Outcome, arm_of, first_days, outcome_of
from metajax.exploration.logs import LoggedFeedback, logged
from metajax.exploration.off_policy import Estimate, by_position, evaluate, evaluate_lists
from metajax.exploration.open_bandit import bernoulli_thompson, open_bandit
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
from metajax.exploration.simulation import (
    Arm,
    Environment,
    Knowledge,
    Trace,
    best_possible,
    item_levels,
    retention,
    simulate,
)
from metajax.exploration.slates import Beliefs, Policy, Slate, reserved_slots
from metajax.exploration.worlds import Days, knowledge_of, refitted, replayed, synthetic

__all__ = [
    "Arm",
    "Beliefs",
    "BetaCounts",
    "Days",
    "Environment",
    "Estimate",
    "Knowledge",
    "LoggedFeedback",
    "Outcome",
    "Policy",
    "Slate",
    "Trace",
    "arm_of",
    "bernoulli_thompson",
    "best_possible",
    "beta_beliefs",
    "beta_from_moments",
    "beta_thompson",
    "by_position",
    "content_prior",
    "epsilon_greedy",
    "evaluate",
    "evaluate_lists",
    "first_days",
    "greedy",
    "item_levels",
    "knowledge_of",
    "linear_beliefs",
    "linear_thompson",
    "linear_ucb",
    "logged",
    "model_beliefs",
    "open_bandit",
    "outcome_of",
    "policy_of",
    "refitted",
    "replayed",
    "reserved_slots",
    "retention",
    "simulate",
    "softmax",
    "synthetic",
    "thompson",
    "ucb",
    "ucb1",
    "ucb1_bounds",
    "ucb_bounds",
    "update_counts",
    "update_items",
    "update_linear",
]
