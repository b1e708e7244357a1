"""Synthetic data sets from a linear-Gaussian model, and their Bayes-optimal predictor.

On real data the best possible accuracy is unknown. Here a user's latent vector z,
given the user's attributes a, and a rating of an item with regressors x are drawn from

    z | a ~ N(W'a, S),    rating = mean + item bias + x . z + N(0, noise) ,

so the posterior mean of a rating is a closed form, no predictor has a smaller expected squared
error, and that error, the posterior variance, can be computed.

A latent vector holds a bias and tastes: one block shared by all domains and, where there are
several, one more for each domain. An item's regressors are [1, its vector], in the shared block
and in its domain's.

Ratings are continuous and not clipped: rounding or clipping would make the closed form inexact.
The choice of rated items depends on activity, popularity and domain, never on z, so it holds no
information about z.

References:
    C. M. Bishop, Pattern Recognition and Machine Learning, Springer 2006, section 3.3. Here the
    prior mean differs between users and is applied when attributes arrive with the items to score.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import from_columns
from metajax.data.schema import Field, Schema, encode
from metajax.gaussian import posterior, predictive_variance, weighted_statistics
from metajax.types import Adaptation, Examples, Inputs

__all__ = ["BayesParams", "World", "bayes", "bayes_error", "world"]

_OCCUPATIONS = ("artist", "doctor", "farmer", "student", "teacher")
_TOPICS = ("action", "comedy", "drama", "history", "romance", "science")
_USERS = Schema(
    (
        Field("age", "numeric", mean=44.0, scale=15.0),
        Field("occupation", "categorical", _OCCUPATIONS),
        Field("interests", "tokens", _TOPICS),
    )
)
_ITEM_FIELDS = (
    Field("year", "numeric", mean=2000.0, scale=12.0),
    Field("topics", "tokens", _TOPICS),
)

_MEAN, _ITEM_BIAS, _USER_BIAS, _TASTE, _NOISE = 3.6, 0.4, 0.45, 0.6, 0.8  # standard deviations
_FROM_ATTRIBUTES = 0.35  # share of the shared block's variance
_SHARED = 0.7  # share of the variance that all domains share
_FEW = (3, 8)  # interactions of a cold user
_YEAR = 31_536_000  # seconds


class BayesParams(NamedTuple):
    """Parameters of the Bayes-optimal predictor: items and population."""

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
    covariance: jax.Array
    """`[L, L]`."""


class World(NamedTuple):
    """A generated data set with its generating parameters."""

    dataset: Dataset
    """As any other data set; users and items, some of them cold, in a seeded order."""
    user_schema: Schema
    """Encodes users the way `bayes_params` expects them."""
    item_schema: Schema
    """Encodes items."""
    user_features: np.ndarray
    """`[U, Du]` float32 encoded attributes; a missing one has no effect on the latent vector."""
    item_features: np.ndarray
    """`[I, Di]` float32 encoded attributes."""
    user_domains: np.ndarray
    """`[U, domains]` bool, where a user is active; in the others the user is cold."""
    item_domain: np.ndarray
    """`[I]` int32."""
    user_latent: np.ndarray
    """`[U, L]` float32, hidden from predictors."""
    bayes: Adaptation
    """The Bayes-optimal predictor."""
    bayes_params: BayesParams
    """Its parameters in this world."""


def world(
    *,
    users: int = 600,
    items: int = 300,
    rank: int = 4,
    domains: int = 2,
    overlap: float = 0.6,
    cold: float = 0.1,
    interactions: float = 40.0,
    seed: int = 0,
) -> World:
    """Generates a world.

    Args:
        users: Number of users U.
        items: Number of items I.
        rank: Number of tastes.
        domains: Number of domains; each item belongs to one.
        overlap: Share of users who are active in all domains, the others in one, in [0, 1].
        cold: Share of users and share of items that have only a few interactions, in [0, 1).
        interactions: Mean number of interactions of a user who is not cold, > 8.
        seed: The world is a pure function of the arguments.

    Returns:
        The world.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> small = world(users=20, items=12, interactions=9)
        >>> small.dataset.interactions.user_ids[:2].tolist(), small.dataset.scale is not None
        (['u00', 'u01'], True)
    """
    for name, value in (("users", users), ("rank", rank), ("domains", domains)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    if items < domains:
        raise ValueError(f"items must be >= domains ({domains}), got {items}.")
    if not 0 <= overlap <= 1:
        raise ValueError(f"overlap must be in [0, 1], got {overlap}.")
    if not 0 <= cold < 1:
        raise ValueError(f"cold must be in [0, 1), got {cold}.")
    if not interactions > _FEW[1]:
        raise ValueError(f"interactions must be > {_FEW[1]}, got {interactions}.")

    rng = np.random.default_rng(seed)
    user_table = _user_table(rng, users)
    item_domain = rng.permutation(np.arange(items) % domains).astype(np.int32)
    item_table, item_schema = _item_table(rng, item_domain, domains)
    user_features, item_features = encode(_USERS, user_table), encode(item_schema, item_table)

    params = _parameters(rng, user_features, item_features, item_domain, rank, domains)
    truth = jax.tree.map(np.asarray, params)
    prior_mean = user_features @ truth.attribute_weights
    root = np.sqrt(np.diag(truth.prior_covariance))
    latent = prior_mean + root * rng.normal(size=prior_mean.shape)

    user_domains = rng.permutation(np.arange(users) % domains)[:, None] == np.arange(domains)
    user_domains |= rng.random((users, 1)) < overlap
    user, item = _who_rates_what(rng, user_domains, item_domain, cold, interactions)
    rating = truth.mean + truth.item_bias[item]
    rating = rating + np.sum(truth.regressors[item] * latent[user], axis=-1)
    rating = rating + np.sqrt(truth.noise) * rng.normal(size=len(user))
    start = rng.integers(0, _YEAR, users)
    log = from_columns(
        user,
        item,
        rating,
        start[user] + rng.integers(0, _YEAR // 12, len(user)),
        user_ids=user_table.ids,
        item_ids=item_table.ids,
    )
    scale = (float(np.floor(log.rating.min())), float(np.ceil(log.rating.max())))
    return World(
        Dataset("synthetic", log, user_table, item_table, scale),
        _USERS,
        item_schema,
        user_features,
        item_features,
        user_domains,
        item_domain,
        latent.astype(np.float32),
        bayes,
        params,
    )


def bayes_error(params: BayesParams, adapted: BayesState, inputs: Inputs) -> jax.Array:
    """Returns the expected squared error of the Bayes-optimal predictor, `[N]`.

    It is the posterior variance of the rating, and no predictor's is smaller.
    """
    x = params.regressors[inputs.item]
    return predictive_variance(adapted.covariance, x, params.noise)


def _adapt(params: BayesParams, support: Examples, key: jax.Array | None = None) -> BayesState:
    """Conditions the latent vector on the support.

    With the posterior covariance C and statistics G, h the mean is m + C (h - G m).
    """
    item = jnp.where(support.mask, support.inputs.item, 0)
    rest = support.labels - params.mean - params.item_bias[item]
    gram, cross = weighted_statistics(params.regressors[item], rest, params.noise, support.mask)
    found = posterior(gram, cross, covariance=params.prior_covariance)
    shrink = jnp.eye(len(cross)) - found.covariance @ gram
    return BayesState(shrink, found.mean, found.covariance)


def _predict(params: BayesParams, adapted: BayesState, inputs: Inputs) -> jax.Array:
    prior_mean = inputs.user_features @ params.attribute_weights  # [N, L]
    latent = prior_mean @ adapted.shrink.T + adapted.shift[None]
    bias = params.mean + params.item_bias[inputs.item]
    return bias + jnp.sum(params.regressors[inputs.item] * latent, axis=-1)


bayes = Adaptation(_adapt, _predict)
"""The Bayes-optimal predictor; its parameters are `BayesParams`."""


def _parameters(
    rng: np.random.Generator,
    user_features: np.ndarray,
    item_features: np.ndarray,
    item_domain: np.ndarray,
    rank: int,
    domains: int,
) -> BayesParams:
    """Draws the items and the population."""
    drawn = _standard(item_features @ rng.normal(size=(item_features.shape[-1], rank + 1)))
    drawn = np.sqrt(0.5) * drawn + np.sqrt(0.5) * rng.normal(size=drawn.shape)
    own = np.concatenate([np.ones((len(drawn), 1)), drawn[:, 1:]], axis=-1)  # [I, rank + 1]
    variance = np.array([_USER_BIAS**2] + [_TASTE**2 / rank] * rank)
    shared = _SHARED if domains > 1 else 1.0

    weights = rng.normal(size=(user_features.shape[-1], rank + 1))
    weights[[name.endswith(("=<missing>", "=<unknown>")) for name in _USERS.columns]] = 0
    spread = np.sqrt(np.mean(np.square(user_features @ weights), axis=0))
    weights *= np.sqrt(shared * _FROM_ATTRIBUTES * variance) / np.maximum(spread, 1e-6)

    blocks, prior = [own], [shared * (1 - _FROM_ATTRIBUTES) * variance]
    if domains > 1:
        blocks += [own * (item_domain == domain)[:, None] for domain in range(domains)]
        prior += [(1 - shared) * variance] * domains
    regressors = np.concatenate(blocks, axis=-1)
    padding = np.zeros((len(weights), regressors.shape[-1] - rank - 1))
    return BayesParams(
        mean=jnp.float32(_MEAN),
        item_bias=jnp.float32(_ITEM_BIAS * drawn[:, 0]),
        regressors=jnp.float32(regressors),
        attribute_weights=jnp.float32(np.concatenate([weights, padding], axis=-1)),
        prior_covariance=jnp.float32(np.diag(np.concatenate(prior))),
        noise=jnp.float32(_NOISE**2),
    )


def _who_rates_what(
    rng: np.random.Generator,
    user_domains: np.ndarray,
    item_domain: np.ndarray,
    cold: float,
    interactions: float,
) -> tuple[np.ndarray, np.ndarray]:
    users, items = len(user_domains), len(item_domain)
    counts = rng.gamma(4.0, (interactions - _FEW[1]) / 4.0, users).astype(int) + _FEW[1] + 1
    cold_users = rng.permutation(users) < cold * users
    counts[cold_users] = rng.integers(_FEW[0], _FEW[1] + 1, int(cold_users.sum()))
    popularity = rng.permutation(np.arange(1, items + 1) ** -0.6)
    # About as much as leaves a cold item with as few interactions as a cold user.
    few = np.mean(_FEW) / (users * interactions) * popularity.sum()
    popularity[rng.permutation(items) < cold * items] = few

    # The largest of log weight plus Gumbel noise are a draw without replacement.
    score = np.log(popularity) + rng.gumbel(size=(users, items))
    legal = user_domains[:, item_domain]
    order = np.argsort(np.where(legal, -score, np.inf), axis=-1)
    counts = np.minimum(counts, legal.sum(axis=-1))
    chosen = np.arange(items) < counts[:, None]
    return np.nonzero(chosen)[0], order[chosen]


def _user_table(rng: np.random.Generator, users: int) -> Table:
    columns = {
        "age": _with_missing(rng, rng.integers(18, 71, users).astype(str)),
        "occupation": _with_missing(rng, rng.choice(_OCCUPATIONS, users)),
        "interests": _tokens(rng, users, 0.3),
    }
    return Table(_ids("u", users), columns, {field.name: field.kind for field in _USERS.fields})


def _item_table(
    rng: np.random.Generator, item_domain: np.ndarray, domains: int
) -> tuple[Table, Schema]:
    items = len(item_domain)
    names = _ids("domain-", domains)
    schema = Schema((Field("domain", "categorical", tuple(names.tolist())), *_ITEM_FIELDS))
    ids = _ids("i", items)
    columns = {
        "domain": names[item_domain],
        "year": _with_missing(rng, rng.integers(1980, 2021, items).astype(str)),
        "topics": _tokens(rng, items, 0.35),
        "title": np.char.add("Item ", ids),
    }
    kinds = {field.name: field.kind for field in schema.fields}
    return Table(ids, columns, {**kinds, "title": "text"}), schema


def _ids(prefix: str, count: int) -> np.ndarray:
    width = len(str(count - 1))
    return np.array([f"{prefix}{n:0{width}d}" for n in range(count)])


def _tokens(rng: np.random.Generator, rows: int, chance: float) -> np.ndarray:
    chosen = rng.random((rows, len(_TOPICS))) < chance
    return np.array([" ".join(np.array(_TOPICS)[row]) for row in chosen])


def _with_missing(rng: np.random.Generator, column: np.ndarray, share: float = 0.1) -> np.ndarray:
    return np.where(rng.random(len(column)) < share, "", column)


def _standard(columns: np.ndarray) -> np.ndarray:
    spread = columns.std(axis=0)
    return (columns - columns.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
