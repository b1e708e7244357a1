import re
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import losses, networks
from metajax.adaptation import ridge_head
from metajax.baselines import eb_fold_in, fit_factors
from metajax.baselines.factors import identities_of
from metajax.data import TrainingSet, from_columns
from metajax.types import Evidence, Examples, Inputs


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def some_evidence(rng, n, width):
    return Evidence(
        expected=rng.normal(size=n),
        design=rng.normal(size=(n, width)),
        noise=rng.uniform(0.5, 2.0, n),
    )


def test_the_posterior_is_that_of_a_bayesian_linear_regression():
    rng = np.random.default_rng(0)
    seen, queried = some_evidence(rng, 4, 3), some_evidence(rng, 2, 3)
    labels, mask = rng.normal(size=4), np.array([True, True, False, True])
    # The network of this test hands on what it is given.
    head = ridge_head(lambda params, inputs: Evidence(*inputs))
    with jax.enable_x64(True):
        inputs = tuple(map(jnp.asarray, seen[:3]))
        posterior = head.adapt((), Examples(inputs, jnp.asarray(labels), jnp.asarray(mask)))
        candidates = tuple(map(jnp.asarray, queried[:3]))
        scores = head.predict((), posterior, candidates)
        assert head.predict_variance is not None
        variances = head.predict_variance((), posterior, candidates)

    x, weight = seen.design[mask], np.diag(1 / seen.noise[mask])
    covariance = np.linalg.inv(np.eye(3) + x.T @ weight @ x)
    mean = covariance @ x.T @ weight @ (labels[mask] - seen.expected[mask])
    np.testing.assert_allclose(posterior.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(posterior.covariance, covariance, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(scores, queried.expected + queried.design @ mean, rtol=1e-12)
    by_hand = [
        row @ covariance @ row + s for row, s in zip(queried.design, queried.noise, strict=True)
    ]
    np.testing.assert_allclose(variances, by_hand, rtol=1e-12)


@pytest.fixture(scope="module")
def training():
    rng = np.random.default_rng(1)
    user, item = np.nonzero(rng.random((30, 8)) < 0.6)
    log = from_columns(
        user,
        item,
        rng.integers(1, 6, len(user)).astype(np.float32),
        user_ids=np.arange(30).astype(str),
        item_ids=np.arange(8).astype(str),
    )
    users, items = (rng.normal(size=size).astype(np.float32) for size in ((30, 2), (8, 3)))
    return TrainingSet(log, users, items, (1.0, 5.0))


def test_before_training_it_is_the_empirical_bayes_fold_in(training):
    factors = fit_factors(training.interactions, rank=2)
    baseline = eb_fold_in.fit(training, rank=2, noise_scale=1.0)
    items = jnp.arange(8)
    user = jnp.broadcast_to(training.user_features[0], (8, 2))
    inputs = Inputs(user, jnp.asarray(training.item_features), items)
    network = networks.from_linen(networks.RidgeNetwork(items=8, width=3))
    embedding, bias = identities_of(factors)
    params = networks.initial_evidence(
        network.init(jax.random.key(0), inputs),
        jnp.asarray(embedding),
        jnp.asarray(bias),
        factors.noise,
    )
    head = ridge_head(network.apply)
    labels = jnp.array([5.0, 1, 3, 4, 2, 2, 5, 1])
    support = Examples(inputs, labels, jnp.arange(8) < 5)
    ours, theirs = head.adapt(params, support), eb_fold_in.adaptation.adapt(baseline, support)
    np.testing.assert_allclose(
        head.predict(params, ours, inputs),
        eb_fold_in.adaptation.predict(baseline, theirs, inputs),
        rtol=1e-4,
    )
    assert head.predict_variance is not None
    assert eb_fold_in.adaptation.predict_variance is not None
    np.testing.assert_allclose(
        head.predict_variance(params, ours, inputs),
        eb_fold_in.adaptation.predict_variance(baseline, theirs, inputs),
        rtol=1e-4,
    )


def test_all_parameters_but_closed_forms_are_trained(training):
    inputs = Inputs(
        jnp.asarray(training.user_features[:4]),
        jnp.asarray(training.item_features[:4]),
        jnp.arange(4),
    )
    network = networks.from_linen(networks.RidgeNetwork(items=8, width=3, tastes=2))
    params = network.init(jax.random.key(2), inputs)
    # Away from the zeros that it starts at, where products of two zeros do not move.
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    head = ridge_head(network.apply)
    support = Examples(inputs, jnp.array([1.0, 5, 3, 2]), jnp.ones(4, bool))

    def loss(params):
        adapted = head.adapt(params, support)
        return losses.squared_error(head.predict(params, adapted, inputs), 2 * support.labels)

    gradient = jax.jit(jax.grad(loss))(params)
    still = {
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
        if not np.abs(leaf).max() > 0
    }
    tables = {f"['{name}']['embedding']" for name in ("item_embedding", "item_spread")}
    assert still == {*tables, "['taste_map']['kernel']"}


def test_without_attributes_there_is_no_map():
    inputs = Inputs(jnp.zeros((2, 0)), jnp.zeros((2, 0)), jnp.arange(2))
    network = networks.from_linen(networks.RidgeNetwork(items=2, width=2))
    params = network.init(jax.random.key(0), inputs)
    assert params.keys() == {"item_bias", "item_embedding", "item_spread", "log_noise", "root"}
    assert network.apply(params, inputs).expected.shape == (2,)


def test_identities_of_another_shape_are_refused():
    inputs = Inputs(jnp.zeros((2, 1)), jnp.zeros((2, 1)), jnp.arange(2))
    params = networks.from_linen(networks.RidgeNetwork(items=2, width=2)).init(
        jax.random.key(0), inputs
    )
    start = partial(networks.initial_evidence, params, bias=jnp.zeros(2), noise=jnp.ones(()))
    with pytest.raises(ValueError, match=r"item_embedding must have the shape \(2, 2\), got"):
        start(jnp.zeros((2, 3)))


@pytest.mark.usefixtures("x64")
def test_a_gradient_solves_one_system_after_the_other():
    """Two batches of triangular solutions side by side can block XLA's threads for good."""
    head = ridge_head(lambda params, inputs: Evidence(inputs[0], params * inputs[1], inputs[2]))
    tasks = tuple(map(jnp.asarray, some_evidence(np.random.default_rng(1), 12, 3)[:3]))
    tasks = jax.tree.map(lambda leaf: leaf.reshape(3, 4, *leaf.shape[1:]), tasks)

    def loss(params):
        def one(inputs):
            support = Examples(inputs, jnp.ones(4), jnp.ones(4, bool))
            adapted = head.adapt(params, support)
            assert head.predict_variance is not None
            variance = head.predict_variance(params, adapted, inputs)
            return jnp.sum(head.predict(params, adapted, inputs) ** 2 + variance)

        return jnp.sum(jax.vmap(one)(tasks))

    # Of a Cholesky factor there are two, each of which needs what the other found.
    text = jax.jit(jax.grad(loss)).lower(1.0).as_text()
    assert len(re.findall(r"custom_call @\w*trsm|triangular_solve", text)) == 2
    chex.assert_numerical_grads(loss, (jnp.array(1.3),), order=1, atol=1e-7, rtol=1e-7, eps=1e-5)


def test_a_prior_mean_is_the_state_of_an_empty_support_and_labels_correct_it():
    rng = np.random.default_rng(2)
    seen, mean = some_evidence(rng, 4, 3), np.array([0.3, -0.2, 0.5])
    labels, mask = rng.normal(size=4), np.array([True, True, False, True])
    head = ridge_head(lambda params, inputs: Evidence(*inputs), lambda params, support: params)
    with jax.enable_x64(True):
        support = Examples(
            tuple(map(jnp.asarray, seen[:3])), jnp.asarray(labels), jnp.asarray(mask)
        )
        posterior = head.adapt(jnp.asarray(mean), support)
        untold = head.adapt(jnp.asarray(mean), support._replace(mask=jnp.zeros(4, bool)))
    x, weight = seen.design[mask], np.diag(1 / seen.noise[mask])
    precision = np.eye(3) + x.T @ weight @ x
    # Both are normal equations of one least-squares problem, the prior's rows among them.
    right = mean + x.T @ weight @ (labels[mask] - seen.expected[mask])
    np.testing.assert_allclose(posterior.mean, np.linalg.solve(precision, right), rtol=1e-12)
    np.testing.assert_array_equal(untold.mean, mean)


def test_a_label_of_power_two_counts_as_the_same_label_given_twice():
    rng = np.random.default_rng(3)
    seen, labels = some_evidence(rng, 3, 2), rng.normal(size=3)
    head = ridge_head(lambda params, inputs: Evidence(*inputs))
    twice = np.array([0, 0, 1, 2, 2])

    def posterior(rows, *power):
        inputs = tuple(jnp.asarray(leaf[rows]) for leaf in seen[:3]) + power
        return head.adapt(
            (), Examples(inputs, jnp.asarray(labels[rows]), jnp.ones(len(rows), bool))
        )

    with jax.enable_x64(True):
        one = posterior(np.arange(3), jnp.array([2.0, 1.0, 2.0]))
        other = posterior(twice)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-12)
    np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-12)
