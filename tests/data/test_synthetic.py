import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.data.schema import encode
from metajax.data.synthetic import World, bayes, bayes_error, world
from metajax.types import Examples, Inputs

SHOTS, ASKED = 5, 4


def examples_of(features, item, rating, mask) -> Examples:
    """Item features are nothing to the Bayes predictor, so they are left empty."""
    inputs = Inputs(jnp.asarray(features), jnp.zeros((*item.shape, 0)), jnp.asarray(item))
    return Examples(inputs, jnp.asarray(rating), jnp.asarray(mask))


@pytest.fixture(scope="module")
def small() -> World:
    return world(users=400, items=80, rank=2, interactions=20, seed=3)


@pytest.fixture(scope="module")
def tasks(small: World) -> tuple[Examples, Examples, np.ndarray]:
    """Every user with enough interactions: five to look at, four to be judged by."""
    log = small.dataset.interactions
    users = np.flatnonzero(log.user_counts >= SHOTS + ASKED)
    rng = np.random.default_rng(0)
    rows = np.stack(
        [rng.permutation(np.arange(*log.offsets[u : u + 2]))[: SHOTS + ASKED] for u in users]
    )

    def examples(rows: np.ndarray) -> Examples:
        item = log.item[rows]
        features = np.repeat(small.user_features[users][:, None], rows.shape[1], axis=1)
        return examples_of(features, item, log.rating[rows], np.ones(rows.shape, bool))

    return examples(rows[:, :SHOTS]), examples(rows[:, SHOTS:]), users


@jax.jit
def posterior(params, support: Examples, queried: Inputs):
    adapted = bayes.adapt(params, support)
    scores = bayes.predict(params, adapted, queried)
    return adapted, scores, bayes_error(params, adapted, queried)


def test_the_posterior_solves_the_normal_equations(small, tasks):
    support, query, _ = tasks
    task = jax.tree.map(lambda leaf: leaf[0], support)
    queried = jax.tree.map(lambda leaf: leaf[0], query).inputs
    _, got, error = posterior(small.bayes_params, task, queried)
    p = [np.asarray(leaf, np.float64) for leaf in small.bayes_params]
    mean, item_bias, regressors, weights, covariance, noise = p
    x = regressors[task.inputs.item]
    y = task.labels - mean - item_bias[task.inputs.item]
    prior = task.inputs.user_features[0] @ weights
    # (S^-1 + X'X / noise) z = S^-1 m + X'y / noise
    precision = np.linalg.inv(covariance)
    system = precision + x.T @ x / noise
    latent = np.linalg.solve(system, precision @ prior + x.T @ y / noise)
    x_asked = regressors[queried.item]
    scores = mean + item_bias[queried.item] + x_asked @ latent
    np.testing.assert_allclose(got, scores, rtol=0, atol=3e-6)
    variance = noise + np.sum(x_asked @ np.linalg.inv(system) * x_asked, axis=-1)
    np.testing.assert_allclose(error, variance, rtol=2e-6)


def test_no_support_gives_the_prior_and_padding_adds_nothing(small, tasks):
    support, query, _ = tasks
    task = jax.tree.map(lambda leaf: leaf[0], support)
    queried = jax.tree.map(lambda leaf: leaf[0], query).inputs
    params = small.bayes_params
    nothing = task._replace(
        inputs=task.inputs._replace(item=np.full(SHOTS, 10**6)),
        labels=np.full(SHOTS, np.nan, np.float32),
        mask=np.zeros(SHOTS, bool),
    )
    adapted, got, _ = posterior(params, nothing, queried)
    np.testing.assert_array_equal(adapted.shrink, np.eye(len(adapted.shift)))
    np.testing.assert_array_equal(adapted.shift, 0)
    prior = queried.user_features @ params.attribute_weights
    wanted = params.mean + params.item_bias[queried.item]
    wanted += jnp.sum(params.regressors[queried.item] * prior, axis=-1)
    np.testing.assert_allclose(got, wanted, atol=1e-6)

    padded = jax.tree.map(lambda a, b: np.concatenate([a, b]), task, nothing)
    chex.assert_trees_all_close(
        posterior(params, padded, queried), posterior(params, task, queried), rtol=0, atol=1e-6
    )


def test_the_error_equals_theory_and_every_perturbation_is_worse():
    # 3000 users of 4 questions: the mean squared error of 12,000 normal errors of variance v has
    # a standard deviation of about v * sqrt(2 / 12,000), somewhat more as a user's errors agree.
    big = world(users=3000, items=40, rank=2, interactions=12, cold=0, seed=7)
    log, params = big.dataset.interactions, big.bayes_params
    users = np.flatnonzero(log.user_counts >= SHOTS + ASKED)
    start = log.offsets[users, None]
    # Rows lie by item, which is independent of the ratings' errors.
    rows = start + np.arange(SHOTS + ASKED)

    @jax.jit
    def judge(params):
        def one(features, item, rating):
            known, queried = slice(None, SHOTS), slice(SHOTS, None)
            inputs = Inputs(jnp.tile(features, (SHOTS, 1)), jnp.zeros((SHOTS, 0)), item[known])
            adapted = bayes.adapt(params, Examples(inputs, rating[known], jnp.ones(SHOTS, bool)))
            inputs = Inputs(jnp.tile(features, (ASKED, 1)), jnp.zeros((ASKED, 0)), item[queried])
            error = bayes.predict(params, adapted, inputs) - rating[queried]
            return jnp.mean(error**2), jnp.mean(bayes_error(params, adapted, inputs))

        return jax.vmap(one)(big.user_features[users], log.item[rows], log.rating[rows])

    error, expected = (np.asarray(leaf, np.float64) for leaf in judge(params))
    sampling = np.std(error - expected) / np.sqrt(len(users))
    assert sampling < 0.015
    assert abs(np.mean(error - expected)) < 3 * sampling
    assert params.noise < np.mean(expected) < 0.9 * np.var(log.rating)

    cut = params.prior_covariance.at[:3, :3].multiply(0.1)  # as if users hardly shared a taste
    perturbed = {
        "noise": params._replace(noise=params.noise * 3),
        "prior": params._replace(prior_covariance=params.prior_covariance * 4),
        "sharing": params._replace(prior_covariance=cut),
        "attributes": params._replace(attribute_weights=params.attribute_weights * 0),
        "item bias": params._replace(item_bias=params.item_bias * 0.7),
        "items": params._replace(regressors=params.regressors.at[:, 1].multiply(-1)),
    }
    for name, wrong in perturbed.items():
        difference = np.asarray(judge(wrong)[0], np.float64) - error
        standard_error = np.std(difference) / np.sqrt(len(users))
        assert np.mean(difference) > 3 * standard_error, name


def test_domains_are_correlated(small):
    params = small.bayes_params
    one, other = (np.flatnonzero(small.item_domain == domain)[:SHOTS] for domain in (0, 1))

    def error(known: np.ndarray, mask: bool) -> float:
        features = np.tile(small.user_features[0], (SHOTS, 1))
        support = examples_of(features, known, np.zeros(SHOTS), np.full(SHOTS, mask))
        return float(jnp.mean(posterior(params, support, support.inputs._replace(item=other))[2]))

    assert error(other, True) < 0.98 * error(one, True)
    assert error(one, True) < 0.98 * error(one, False)


def test_vmap_equals_a_loop(small, tasks):
    support, query, _ = tasks
    support, query = jax.tree.map(lambda leaf: leaf[:3], (support, query))

    batch = jax.vmap(posterior, (None, 0, 0))(small.bayes_params, support, query.inputs)
    pair = (support, query.inputs)
    loop = [
        posterior(small.bayes_params, *jax.tree.map(lambda leaf, t=t: leaf[t], pair))
        for t in range(3)
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *loop)
    chex.assert_trees_all_close(batch, stacked, rtol=0, atol=2e-6)


def test_the_same_seed_is_the_same_world_and_another_is_not(small):
    again = world(users=400, items=80, rank=2, interactions=20, seed=3)
    other = world(users=400, items=80, rank=2, interactions=20, seed=4)
    for a, b in zip(small.dataset.interactions, again.dataset.interactions, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(small.user_latent, again.user_latent)
    columns = (w.dataset.users.columns.items() for w in (small, again))
    for a, b in zip(*columns, strict=True):
        assert a[0] == b[0]
        np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(small.user_latent, other.user_latent)


def test_the_data_set_has_strings_missing_values_and_valid_ratings(small):
    data = small.dataset
    log, (low, high) = data.interactions, data.scale
    assert log.user_ids.dtype.kind == "U"
    assert log.item_ids.dtype.kind == "U"
    assert sorted(log.user_ids) == list(log.user_ids) == list(data.users.ids)
    assert sorted(log.item_ids) == list(log.item_ids) == list(data.items.ids)
    assert low <= log.rating.min() <= log.rating.max() <= high
    assert not np.array_equal(log.rating, np.round(log.rating))
    assert len(np.unique(log.time)) > len(log.time) / 2
    described = ((data.users, ("age", "occupation", "interests")), (data.items, ("year",)))
    for table, columns in described:
        assert set(table.kinds) == set(table.columns)
        for name in columns:
            missing = np.mean(table.columns[name] == "")
            assert 0.02 < missing < 0.3, name
    np.testing.assert_array_equal(encode(small.user_schema, data.users), small.user_features)
    np.testing.assert_array_equal(encode(small.item_schema, data.items), small.item_features)


def test_domains_overlap_and_users_rate_inside_theirs(small):
    assert set(small.item_domain.tolist()) == {0, 1}
    both = small.user_domains.sum(axis=1)
    assert set(both.tolist()) == {1, 2}
    assert abs(np.mean(both == 2) - 0.6) < 0.1
    log = small.dataset.interactions
    user = log.user
    assert small.user_domains[user, small.item_domain[log.item]].all()


def test_some_users_and_items_are_cold_and_most_are_not():
    data = world().dataset
    per_user = data.interactions.user_counts
    per_item = data.interactions.item_counts
    assert abs(np.mean(per_user <= 8) - 0.1) < 0.03
    assert per_user.min() >= 3
    assert 0.05 < np.mean(per_item <= 10) < 0.15
    assert abs(np.mean(per_user[per_user > 8]) - 40) < 4


def test_attributes_correlate_with_latent_vectors(small):
    residual = small.user_latent - small.user_features @ small.bayes_params.attribute_weights
    explained = 1 - np.var(residual[:, :3], axis=0) / np.var(small.user_latent[:, :3], axis=0)
    # .35 of the shared block's variance, with 400 users.
    assert np.all((explained > 0.2) & (explained < 0.5))


def test_one_domain_needs_no_blocks():
    alone = world(users=30, items=12, rank=2, domains=1, interactions=9)
    assert alone.bayes_params.regressors.shape == (12, 3)
    assert alone.user_domains.all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"users": 0}, "users must be >= 1, got 0"),
        ({"rank": 0}, "rank must be >= 1, got 0"),
        ({"items": 1}, r"items must be >= domains \(2\), got 1"),
        ({"overlap": 1.5}, r"overlap must be in \[0, 1\], got 1.5"),
        ({"cold": 1}, r"cold must be in \[0, 1\), got 1"),
        ({"interactions": 8}, "interactions must be > 8, got 8"),
    ],
)
def test_invalid_settings_are_named(setting, message):
    with pytest.raises(ValueError, match=message):
        world(**setting)
