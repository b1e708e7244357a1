import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.baselines.content import content_features, content_groups, fit_content
from metajax.cross_domain.content_adapter import content_fold_in
from metajax.data import TrainingSet, from_columns
from metajax.types import Examples, Inputs

USERS, ITEMS = 1600, 40
DOMAIN = np.repeat([0, 1], ITEMS // 2)


def log_of(seen, rating):
    user, item = np.nonzero(seen)
    ids = [np.array([f"{n:04}" for n in range(size)]) for size in seen.shape]
    return from_columns(user, item, rating[seen], user_ids=ids[0], item_ids=ids[1])


@pytest.fixture(scope="module")
def world():
    """Nobody is in both domains; a user is as generous in any group, but for a deviation of it."""
    rng = np.random.default_rng(0)
    kind = np.arange(ITEMS) % 2
    level = rng.normal(scale=0.7, size=USERS)
    own = rng.normal(scale=0.3, size=(USERS, 3))
    gender = np.arange(USERS) % 2
    level += 0.4 * (gender - 0.5)
    quality = rng.normal(scale=0.5, size=ITEMS)
    group = np.where(DOMAIN == 1, 2, kind)
    rating = 3 + quality + level[:, None] + own[:, group]
    rating = rating + 0.5 * rng.normal(size=rating.shape)
    side = np.arange(USERS) % 4 // 2
    seen = side[:, None] == DOMAIN
    attributes = np.stack([kind, 1 - kind], axis=1).astype(np.float32)
    genders = np.stack([gender, 1 - gender], axis=1).astype(np.float32)
    log = log_of(seen, rating)
    return TrainingSet(log, genders, attributes, (-2.0, 8.0), DOMAIN), rating, level


def test_traits_are_those_of_the_domain():
    """Two items a domain, of 3 and 1 ratings, above and below the mean of theirs."""
    seen = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 1, 1], [0, 0, 1, 0], [0, 0, 1, 0]], bool)
    rating = np.array([4.0, 2.0, 1.0, 5.0]) * np.ones((5, 1))
    training = TrainingSet(
        log_of(seen, rating), np.zeros((5, 0)), np.zeros((4, 0)), (1.0, 5.0), np.array([0, 0, 1, 1])
    )
    # Means of 3.5 and 2; three of four ratings are of the first item: z-scores 1/sqrt(3), -sqrt(3).
    first, other = 1 / np.sqrt(3), -np.sqrt(3)
    expected = [[1, first, first], [1, other, other], [1, -first, first], [1, -other, other]]
    np.testing.assert_allclose(content_features(training), expected, atol=1e-9)
    unrated = training.interactions._replace(
        offsets=np.zeros(6, np.int64), item=np.zeros(0, np.int32), rating=np.zeros(0, np.float32)
    )
    nothing = content_features(training._replace(interactions=unrated))
    np.testing.assert_array_equal(nothing, np.eye(3)[[0, 0, 0, 0]])
    alone = training._replace(item_domain=None)
    count = np.array([3, 1, 3, 1])
    np.testing.assert_allclose(count @ content_features(alone), [8, 0, 0], atol=1e-9)


def test_the_source_falls_in_two_by_its_main_attribute(world):
    training, *_ = world
    kind = np.arange(ITEMS) % 2
    group = content_groups(training)
    np.testing.assert_array_equal(group[DOMAIN == 1], 2)
    same = group[DOMAIN == 0] == kind[DOMAIN == 0]
    assert same.all() or not same.any()
    bare = training._replace(item_features=np.zeros((ITEMS, 0), np.float32))
    np.testing.assert_array_equal(content_groups(bare), 2 * DOMAIN)


def test_variance_components_of_all_groups_and_of_one_are_recovered(world):
    """Variances of .49 and .04 + .09, the gender's included, are what the world was made of."""
    training, *_ = world
    # Tastes for the kind would explain some of it as well.
    fitted = fit_content(training, taste=1e-6, steps=40)
    said = np.concatenate([fitted.traits, training.item_features], axis=1)
    design = said @ np.asarray(fitted.encoder)
    covariance = design @ design.T
    group = content_groups(training)
    # Between items of different kinds in the source only the shared part is common.
    apart = covariance[np.ix_(group == 0, group == 1)].mean()
    across = covariance[np.ix_(group == 0, group == 2)].mean()
    within = covariance[np.ix_(group == 2, group == 2)].mean()
    # Three standard errors over 1,600 users, .53 sqrt(2 / 1600) = .019 of the shared variance, and
    # .23 / 2 sqrt(2 / 800) = .006 of a deviation, seen as a difference in half of the users; over
    # eight seeds .017 and .0055. The noise is biased by the ridges of 40 items.
    np.testing.assert_allclose(apart, 0.49 + 0.04, atol=0.056)
    np.testing.assert_allclose(across, 0.49 + 0.04, atol=0.056)
    np.testing.assert_allclose(within - across, 0.09, atol=0.018)
    np.testing.assert_allclose(fitted.noise, 0.25, atol=0.01)


def test_a_user_of_the_source_alone_is_known_in_the_target(world):
    training, rating, level = world
    params = fit_content(training)
    items = np.flatnonzero(DOMAIN == 0)

    @jax.jit
    def scores(features, labels):
        def inputs(item):
            rows = (len(item), 1)
            return Inputs(jnp.tile(features, rows), jnp.zeros((len(item), 2)), jnp.asarray(item))

        support = Examples(inputs(items), labels, jnp.ones(len(items), bool))
        target = inputs(np.flatnonzero(DOMAIN == 1))
        adapted = content_fold_in.adaptation.adapt(params, support)
        return content_fold_in.adaptation.predict(params, adapted, target)

    known = np.flatnonzero(np.arange(USERS) % 4 < 2)[:40]
    found = np.array([np.mean(scores(training.user_features[u], rating[u, items])) for u in known])
    # A group's own deviations leave an error of .3 of the mean and of .3/2 of what is seen of it.
    error = found - found.mean() - (level[known] - level[known].mean())
    assert np.sqrt(np.mean(error**2)) < 0.3 < 0.6 < np.std(level[known])


def test_invalid_settings_are_refused(world):
    training, *_ = world
    with pytest.raises(ValueError, match="training must have two domains"):
        content_fold_in.fit(training._replace(item_domain=None))
    with pytest.raises(ValueError, match=r"steps must be >= 1, got 0\."):
        fit_content(training, steps=0)
    with pytest.raises(ValueError, match="taste must be > 0"):
        fit_content(training, taste=0.0)
    empty = training.interactions._replace(
        offsets=np.zeros(USERS + 1, np.int64), item=np.zeros(0, np.int32),
        rating=np.zeros(0, np.float32), time=np.zeros(0),
    )  # fmt: skip
    with pytest.raises(ValueError, match="at least one rating, got none"):
        fit_content(training._replace(interactions=empty))
