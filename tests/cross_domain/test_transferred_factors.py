import numpy as np
import pytest

from metajax.baselines import fit_factors
from metajax.baselines.factors import user_posteriors
from metajax.cross_domain.parameter_transfer import fit_transferred_factors
from metajax.data import TrainingSet, from_columns
from metajax.data.interactions import select_rows

USERS, NEW, ITEMS, NOISE = 150, 30, 30, 0.4


def training(*, matched: bool, shown: float = 0.6) -> TrainingSet:
    """Users who are in the target what they are in the source: how generous, and of what taste.

    The last users have no row in the target.
    """
    rng = np.random.default_rng(0)
    place, taste = rng.normal(size=(USERS, 2)), np.abs(rng.normal(size=2 * ITEMS))
    rating = 3 + 0.6 * place[:, :1] + place[:, 1:] * taste[None]
    rating = rating + rng.normal(size=2 * ITEMS)[None] + NOISE * rng.normal(size=rating.shape)
    user, item = np.nonzero(rng.random(rating.shape) < shown)
    kept = (user < USERS - NEW) | (item < ITEMS)
    user, item = user[kept], item[kept]
    name = user if matched else np.where(item < ITEMS, user, user + USERS)
    ids = [np.char.zfill(np.arange(n).astype(str), 3) for n in (2 * USERS, 2 * ITEMS)]
    log = from_columns(name, item, rating[user, item], user_ids=ids[0], item_ids=ids[1])
    domain = np.repeat([0, 1], ITEMS).astype(np.int32)
    blank = np.zeros((2 * USERS, 0), np.float32), np.zeros((2 * ITEMS, 0), np.float32)
    return TrainingSet(log, *blank, (-9.0, 15.0), item_domain=domain)


def normal(precision, information):
    covariance = np.linalg.inv(precision)
    return covariance @ information, covariance


def test_the_first_step_is_that_of_the_textbook_user_by_user_and_item_by_item():
    both = training(matched=True)
    log = both.interactions
    source, target = (select_rows(log, (log.item >= ITEMS) == side) for side in (False, True))
    user, item, rating = target.user, target.item, target.rating.astype(float)
    factors = fit_factors(source, rank=1)
    noise = float(factors.noise)
    # What the source knows, turned to users with a standard normal prior.
    root = np.linalg.cholesky(np.asarray(factors.prior_covariance, float))
    _, (mean, covariance) = user_posteriors(factors, source)
    place = np.linalg.solve(root, (mean - np.asarray(factors.prior_mean)).T).T
    known = np.linalg.inv(np.linalg.inv(root) @ covariance @ np.linalg.inv(root).T)
    design = np.insert(np.asarray(factors.item_factors, float), 0, 1.0, axis=1)
    bias = float(factors.mean) + np.asarray(factors.item_bias) + design @ factors.prior_mean
    table = np.insert(design @ root, 0, bias, axis=1)[:ITEMS]
    spread = np.cov(table.T) + 1e-3 * np.eye(3)
    prior, center = np.linalg.inv(spread), np.append(rating.mean(), table[:, 1:].mean(axis=0))

    first = []
    for i in range(ITEMS, 2 * ITEMS):
        precision, information = prior.copy(), prior @ center
        around = noise + center[1:] @ center[1:] + np.trace(spread[1:, 1:])
        precision[0, 0] += np.sum(item == i) / around
        information[0] += np.sum(rating[item == i]) / around
        w, v = normal(precision, information)
        first.append((w, v + np.outer(w, w)))
    users = []
    for u in range(USERS - NEW):
        precision, information = known[u].copy(), known[u] @ place[u]
        for i, y in zip(item[user == u], rating[user == u], strict=True):
            w, second = first[i - ITEMS]
            precision += second[1:, 1:] / noise
            information += (y * w[1:] - second[1:, 0]) / noise
        users.append(normal(precision, information))

    found = fit_transferred_factors(both, rank=1, steps=1)
    for i in (ITEMS, 2 * ITEMS - 1):
        precision, information = prior.copy(), prior @ center
        for u, y in zip(user[item == i], rating[item == i], strict=True):
            seen = np.insert(users[u][0], 0, 1.0)
            precision += np.outer(seen, seen) / noise
            precision[1:, 1:] += users[u][1] / noise
            information += y * seen / noise
        expected, _ = normal(precision, information)
        np.testing.assert_allclose(found.bias[i], expected[0], rtol=1e-4)
        np.testing.assert_allclose(found.embedding[i], expected[1:], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.bias[:ITEMS], bias[:ITEMS], rtol=1e-5)
    np.testing.assert_allclose(found.embedding[:ITEMS], table[:, 1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("matched", [True, False])
def test_source_ratings_predict_those_of_the_target(matched):
    """With and without common users; without, attributes of items link the domains."""
    both = training(matched=matched)
    found = fit_transferred_factors(both, rank=1, steps=10)
    rng = np.random.default_rng(0)
    place, taste = rng.normal(size=(USERS, 2)), np.abs(rng.normal(size=2 * ITEMS))
    true = 0.6 * place[:, :1] + place[:, 1:] * taste[None]
    off = []
    for user in range(USERS - NEW, USERS):
        rows = slice(*both.interactions.offsets[user : user + 2])
        item, rating = both.interactions.item[rows], both.interactions.rating[rows]
        x, y = (
            leaf / np.sqrt(found.noise[0])
            for leaf in (found.embedding[item], rating - found.bias[item])
        )
        result = found.embedding[ITEMS:] @ np.linalg.solve(np.eye(2) + x.T @ x, x.T @ y)
        off.append(result - true[user, ITEMS:])
    share = np.mean(np.square(off)) / np.mean(true[USERS - NEW :, ITEMS:] ** 2)
    # 18 ratings of noise .4 leave .01 of the variance open; a rotation has to be found unmatched.
    assert share < (0.03 if matched else 0.1)


def test_an_unrated_item_is_the_mean_item():
    both = training(matched=True)
    log = both.interactions
    few = both._replace(interactions=select_rows(log, log.item != 2 * ITEMS - 1))
    found = fit_transferred_factors(few, rank=1, steps=2)
    rated = found.bias[ITEMS:-1].mean(), found.embedding[ITEMS:-1].mean(axis=0)
    np.testing.assert_allclose(found.bias[-1], rated[0], rtol=1e-4)
    np.testing.assert_allclose(found.embedding[-1], rated[1], rtol=1e-3, atol=1e-4)


def test_the_prior_of_target_items_is_the_one_source_item():
    both = training(matched=True)
    log = both.interactions
    few = both._replace(interactions=select_rows(log, (log.item == 0) | (log.item >= ITEMS)))
    found = fit_transferred_factors(few, rank=1, steps=1)
    # The prior standard deviation of an embedding is 1e-3 ** 0.5.
    np.testing.assert_allclose(
        found.embedding[ITEMS:], np.tile(found.embedding[:1], (ITEMS, 1)), atol=3 * 1e-3**0.5
    )
    assert np.isfinite(found.bias).all()


def test_unusable_training_sets_are_refused():
    both = training(matched=True)
    with pytest.raises(ValueError, match="must have two domains, got no item_domain"):
        fit_transferred_factors(both._replace(item_domain=None))
    with pytest.raises(ValueError, match="steps must be >= 1, got 0"):
        fit_transferred_factors(both, steps=0)
    nowhere = both._replace(item_domain=np.zeros(2 * ITEMS, np.int32))
    with pytest.raises(ValueError, match="in each domain, got none in the target"):
        fit_transferred_factors(nowhere)
