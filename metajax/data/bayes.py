"""The best possible predictor of a linear-Gaussian world, as any other adaptation.

A user's latent vector z, given the user's attributes a, and a rating of an item with regressors x:

    z | a ~ N(W'a, S)
    rating = mean + item bias + x . z + N(0, noise)

Then the posterior mean of a rating has the smallest expected squared error of all predictors, and
the posterior variance is that error.

References:
    C. M. Bishop, Pattern Recognition and Machine Learning, 2006, section 3.3. Here the prior mean
    differs from user to user and is left open until attributes arrive with the items to score.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.types import Adaptation, Examples, Inputs

__all__ = ["BayesParams", "BayesState", "bayes", "bayes_error"]


class BayesParams(NamedTuple):
    """What a recommender that knows the world knows: the items and the population."""

    mean: jax.Array
    """`[]` mean rating."""
    item_bias: jax.Array
    """`[I]` how much better than the mean an item is rated."""
    regressors: jax.Array
    """`[I, L]` by which a user's latent vector enters the item's rating."""
    attribute_weights: jax.Array
    """`[Du, L]` from a user's encoded attributes to the prior mean of the latent vector."""
    prior_covariance: jax.Array
    """`[L, L]` of the latent vector given the attributes."""
    noise: jax.Array
    """`[]` variance of a rating given everything."""


class BayesState(NamedTuple):
    """A user's posterior, affine in the prior mean: `shrink @ prior_mean + shift`.

    The attributes arrive with the inputs to be scored, so that a user without support has a prior.
    """

    shrink: jax.Array
    """`[L, L]`; the identity for an empty support."""
    shift: jax.Array
    """`[L]`; 0 for an empty support."""


def bayes_error(params: BayesParams, adapted: BayesState, inputs: Inputs) -> jax.Array:
    """Returns the expected squared error of the Bayes-optimal predictor, `[N]`.

    It is the posterior variance of the rating, and no predictor's is smaller.
    """
    x = params.regressors[inputs.item]
    covariance = adapted.shrink @ params.prior_covariance
    return params.noise + jnp.sum((x @ covariance) * x, axis=-1)


def _adapt(params: BayesParams, support: Examples, key: jax.Array | None = None) -> BayesState:
    """Conditions the latent vector on the support.

    With prior N(m, S), rows x of the support and residuals y, the posterior mean is
    m + K (y - X m) = (I - K X) m + K y with the gain K = S X' (X S X' + noise I)^-1.
    """
    keep = support.mask
    item = jnp.where(keep, support.inputs.item, 0)
    x = jnp.where(keep[:, None], params.regressors[item], 0)  # [N, L]
    y = jnp.where(keep, support.labels - params.mean - params.item_bias[item], 0)
    cross = x @ params.prior_covariance  # [N, L]
    system = cross @ x.T + params.noise * jnp.eye(len(y))
    gain = jax.scipy.linalg.solve(system, cross, assume_a="pos").T  # [L, N]
    return BayesState(jnp.eye(x.shape[-1]) - gain @ x, gain @ y)


def _predict(params: BayesParams, adapted: BayesState, inputs: Inputs) -> jax.Array:
    prior_mean = inputs.user_features @ params.attribute_weights  # [N, L]
    latent = prior_mean @ adapted.shrink.T + adapted.shift[None]
    bias = params.mean + params.item_bias[inputs.item]
    return bias + jnp.sum(params.regressors[inputs.item] * latent, axis=-1)


bayes = Adaptation(_adapt, _predict)
