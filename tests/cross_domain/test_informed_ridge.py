import numpy as np
import pytest

from metajax.baselines import fit_factors
from metajax.baselines.factors import user_posteriors
from metajax.cross_domain.informed_ridge import fit_implicit_feedback_prior
from metajax.data import TrainingSet, from_columns

USERS, ITEMS = 60, 10
SOURCE = np.arange(ITEMS) < 6


@pytest.fixture(scope="module")
def training():
    """Users of two kinds: who chooses the first items of the source rates high, others low.

    The last five users chose nothing of the source.
    """
    rng = np.random.default_rng(0)
    kind = np.arange(USERS) % 2
    chance = np.where(kind[:, None] == (np.arange(ITEMS) < 3), 0.9, 0.3)
    chance[:, ~SOURCE] = 0.7
    chance[-5:, SOURCE] = 0.0
    user, item = np.nonzero(rng.random((USERS, ITEMS)) < chance)
    rating = 2.0 + 2.0 * kind[user] + rng.normal(size=len(user)) * 0.3
    log = from_columns(
        user,
        item,
        rating,
        user_ids=np.arange(USERS).astype(str),
        item_ids=np.arange(ITEMS).astype(str),
    )
    return TrainingSet(
        log,
        rng.normal(size=(USERS, 2)).astype(np.float32),
        np.zeros((ITEMS, 0), np.float32),
        (1.0, 5.0),
    )


def chosen_of(training):
    log = training.interactions
    chosen = np.zeros((USERS, ITEMS))
    chosen[log.user, log.item] = 1
    chosen[:, ~SOURCE] = 0
    return chosen / np.sqrt(np.maximum(chosen.sum(axis=1, keepdims=True), 1))


def expected_of(choices, training):
    """The prior mean, as its docstring has it."""
    chosen = chosen_of(training)
    some = chosen.any(axis=1)[:, None]
    found = np.where(some, choices.level + chosen @ choices.of_item, choices.unknown)
    return found + training.user_features @ choices.of_user


def test_one_step_is_the_ridge_regression_of_the_posteriors_on_all_axes(training):
    factors = fit_factors(training.interactions, rank=1, steps=3)
    choices = fit_implicit_feedback_prior(
        training, factors, SOURCE, components=6, ridge=1e-9, steps=1
    )
    _, (latent, own) = user_posteriors(factors, training.interactions)
    chosen = chosen_of(training)
    some = chosen.any(axis=1)[:, None]
    # Six axes of six items are the choices themselves: least squares has no need of axes.
    x = np.concatenate([some, ~some, chosen, training.user_features], axis=1)
    fitted = x @ np.linalg.lstsq(x, latent, rcond=None)[0]
    np.testing.assert_allclose(expected_of(choices, training), fitted, atol=1e-6)
    rest = latent - fitted
    np.testing.assert_allclose(
        choices.covariance, rest.T @ rest / USERS + own.mean(axis=0), atol=1e-6
    )


def test_implicit_feedback_separates_the_kinds_of_users(training):
    factors = fit_factors(training.interactions, rank=1, steps=3)
    choices = fit_implicit_feedback_prior(training, factors, SOURCE, ridge=1.0)
    bias = expected_of(choices, training)[:-5, 0]
    kind = np.arange(USERS - 5) % 2
    # A user's own mean is 1 up or down; what is known of who chose nothing lies between.
    assert bias[kind == 1].mean() - bias[kind == 0].mean() > 1
    assert bias[kind == 0].mean() < choices.unknown[0] < bias[kind == 1].mean()
    assert choices.covariance[0, 0] < 0.5 * factors.prior_covariance[0, 0]
    np.testing.assert_array_equal(choices.of_item[~SOURCE], 0)


def test_users_without_implicit_feedback_have_no_prior_of_items(training):
    """Without overlap: users of the target chose nothing, those of the source are all there is."""
    choices = fit_implicit_feedback_prior(
        training, fit_factors(training.interactions, rank=1), ~SOURCE & SOURCE
    )
    assert np.isfinite(np.concatenate([leaf.ravel() for leaf in choices])).all()
    np.testing.assert_array_equal(choices.of_item, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 0}, "components must be >= 1, got 0"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"ridge": 0.0}, "ridge must be"),
    ],
)
def test_options_out_of_range_are_refused(training, options, message):
    with pytest.raises(ValueError, match=message):
        fit_implicit_feedback_prior(
            training, fit_factors(training.interactions, rank=1), SOURCE, **options
        )
