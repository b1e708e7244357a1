import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.data import TrainingSet, from_columns
from metajax.data.dataset import Shapes, shapes_of
from metajax.methods.attentive_neighbours import (
    MemorisedUsers,
    initial_memory,
    memorised,
    user_memory,
    user_memory_of,
)
from metajax.registry import method_of, settings_for, too_large
from metajax.types import Examples, Inputs, MemberInputs

USERS, ITEMS, ROOM, SCALE = 5, 6, 8, (1.0, 5.0)
RNG = np.random.default_rng(0)
# 0 where there is none; user 3 has rated nothing.
RATINGS = RNG.integers(1, 6, (USERS, ITEMS)) * (RNG.random((USERS, ITEMS)) < 0.7)
RATINGS[3] = 0
FEATURES = RNG.normal(size=(USERS, 2)).astype(np.float32)
MODEL = user_memory(ITEMS, 2, members=ROOM, scale=SCALE)
# So weak that one user counts in the inverse.
RIDGE = 1.0


def training_set(ratings) -> TrainingSet:
    user, item = np.nonzero(ratings)
    log = from_columns(
        user,
        item,
        ratings[user, item].astype(float),
        np.arange(len(user)),
        user_ids=np.arange(USERS).astype(str),
        item_ids=np.arange(ITEMS).astype(str),
    )
    return TrainingSet(log, FEATURES, np.zeros((ITEMS, 1), np.float32), SCALE)


def fitted(ratings):
    """The method's closed forms, and learned parameters none of which is what it starts at."""
    settings = settings_for("attentive_neighbours")
    start = memorised(settings, training_set(ratings))
    params = start(MODEL.init(jax.random.key(0), None))
    rng = np.random.default_rng(1)
    moved = {k: v + 0.3 * rng.normal(size=v.shape) for k, v in params.items() if k != "memory"}
    inverse = jnp.asarray(inverses(ratings, RIDGE), jnp.float32)
    return {**moved, "memory": params["memory"]._replace(inverse=inverse)}


def inverses(ratings, ridge):
    place = np.where(ratings > 0, (ratings - 1) / 4, 0)
    grams = [(place**sharpness).T @ place**sharpness for sharpness in (1, 3)]
    return np.stack([np.linalg.inv(gram + ridge * np.eye(ITEMS)) for gram in grams])


PARAMS = fitted(RATINGS)


def test_what_memorised_users_like_follows_the_threshold():
    settings, shapes = settings_for("attentive_neighbours"), shapes_of(training_set(RATINGS))
    user = jnp.asarray(FEATURES[:1])
    nothing = Inputs(user, jnp.zeros((1, 1)), jnp.zeros(1, int))
    alone = Examples(nothing, jnp.zeros(1), jnp.zeros(1, bool))
    everything = Inputs(jnp.repeat(user, ITEMS, 0), jnp.zeros((ITEMS, 1)), jnp.arange(ITEMS))
    for relevant in (None, 2.0, 5.0):
        model = user_memory_of(settings, shapes._replace(relevant=relevant))
        params = memorised(settings, training_set(RATINGS))(model.init(jax.random.key(0), None))
        params = {**params, "neighbour_logit": jnp.array(-20.0)}
        scores = model.decode(params, model.encode(params, alone), everything)
        popularity = ((relevant or 4) <= RATINGS).sum(axis=0) / (RATINGS.sum(axis=1) > 0).sum()
        np.testing.assert_allclose(scores, np.log(np.exp(-5) + popularity), rtol=1e-5)


SUPPORT = Examples(
    Inputs(jnp.full((3, 2), 0.4), jnp.zeros((3, 1)), jnp.array([4, 1, 0])),
    jnp.array([5.0, 2.0, 9.0]),
    jnp.array([True, True, False]),
)
CATALOGUE = Inputs(jnp.full((ITEMS, 2), 0.4), jnp.zeros((ITEMS, 1)), jnp.arange(ITEMS))


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def reference(params, ratings, support):
    """The formula of the docstring, in float64, one member after the other."""
    p = {k: np.asarray(v, float) for k, v in params.items() if k != "memory"}
    members = [u for u in range(USERS) if ratings[u].any()]
    place = np.where(ratings[members] > 0, (ratings[members] - 1) / 4, 0)
    likes = place >= 0.75
    seen = [
        (int(i), (float(r) - 1) / 4)
        for i, r, m in zip(support.inputs.item, support.labels, support.mask, strict=True)
        if m
    ]
    count = max(len(seen), 1)
    user = np.asarray(support.inputs.user_features[0], float)
    rarity = np.maximum(np.log(len(members) / (1 + likes.sum(0))), 0.1)
    logits = []
    for row, member in enumerate(members):
        distance = np.sum((FEATURES[member] - user) ** 2 * np.exp(p["attributes"]))
        shared = sum(rarity[i] * worth * place[row, i] for i, worth in seen)
        shared /= np.sqrt(np.sum(place[row] ** 2) + 10)
        weight = np.exp(p["similarity"][0]) * count ** p["similarity"][1]
        logits.append(weight * shared - 0.5 * distance)
    share = 1 / (1 + np.exp(-p["neighbour_logit"]))
    prior = (1 - share) * likes.mean(0) + share * softmax(np.array(logits)) @ likes
    score = np.log(np.exp(p["floor"]) + prior) + p["item_bias"]
    both = zip(p["evidence"], (1, 3), inverses(ratings, RIDGE), strict=True)
    for (weight, growth), sharpness, inverse in both:
        weights = -inverse / np.diagonal(inverse)
        np.fill_diagonal(weights, 0)
        scores = sum(worth**sharpness * weights[i] for i, worth in seen)
        score = score + np.exp(weight) * count**growth * scores
    return score


def scores(params, inputs=CATALOGUE, support=SUPPORT):
    return jax.jit(lambda p: MODEL.decode(p, MODEL.encode(p, support), inputs))(params)


def test_scores_are_those_of_the_formula():
    found = scores(PARAMS)
    np.testing.assert_allclose(found, reference(PARAMS, RATINGS, SUPPORT), rtol=1e-4, atol=1e-4)
    some = jax.tree.map(lambda leaf: leaf[jnp.array([5, 2, 2])], CATALOGUE)
    np.testing.assert_allclose(scores(PARAMS, some), found[jnp.array([5, 2, 2])], rtol=1e-6)


def test_the_method_fits_the_inverses():
    start = memorised(settings_for("attentive_neighbours"), training_set(RATINGS))
    found = start(MODEL.init(jax.random.key(0), None))["memory"].inverse
    np.testing.assert_allclose(found, inverses(RATINGS, 3000.0), rtol=1e-5, atol=1e-9)


def test_users_without_support_are_scored_by_attributes():
    nothing = SUPPORT._replace(mask=jnp.zeros(3, bool))
    expected = reference(PARAMS, RATINGS, nothing)
    np.testing.assert_allclose(scores(PARAMS, support=nothing), expected, rtol=1e-4, atol=1e-4)
    elsewhere = SUPPORT.inputs._replace(user_features=jnp.full((3, 2), -2.0))
    other = scores(PARAMS, support=nothing._replace(inputs=elsewhere))
    assert np.abs(other - scores(PARAMS, support=nothing)).max() > 0.01


@pytest.mark.parametrize("member", [0, 2, 4])
def test_a_member_is_scored_like_a_new_user(member):
    """Leaving out is exact: the same as fitting everything without the user's ratings.

    All but the rarity of items, which is a matter of all users.
    """
    without = RATINGS.copy()
    without[member] = 0
    rarity = np.log(4 / (1 + (RATINGS >= 4).sum(0))), np.log(3 / (1 + (without >= 4).sum(0)))
    params = {**PARAMS, "similarity": jnp.array([-30.0, 0.0])}
    params_without = {**fitted(without), "similarity": params["similarity"]}
    assert not np.allclose(*rarity)
    inputs = MemberInputs(
        CATALOGUE,
        jnp.full(ITEMS, member),
        jnp.array(RATINGS[member] > 0),
        jnp.where(RATINGS[member] > 0, RATINGS[member], jnp.nan),
    )
    left_out = scores(params, inputs)
    np.testing.assert_allclose(left_out, scores(params_without), rtol=1e-4, atol=1e-4)
    assert np.abs(left_out - scores(params)).max() > 0.01


def test_the_memory_is_not_trained():
    gradient = jax.grad(lambda p: jnp.sum(jnp.sin(scores(p))))(PARAMS)
    for leaf in jax.tree.leaves(gradient.pop("memory")):
        np.testing.assert_array_equal(leaf, np.zeros_like(leaf))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))


def test_a_memory_that_does_not_fit_is_refused():
    blank = MODEL.init(jax.random.key(0), None)
    many = MemorisedUsers(*(jnp.zeros((ROOM + 1, 1)) for _ in MemorisedUsers._fields))
    with pytest.raises(ValueError, match="memory must hold at most 8 users, got 1 more"):
        initial_memory(blank, many)
    wrong = PARAMS["memory"]._replace(features=jnp.zeros((ROOM, 3)))
    with pytest.raises(ValueError, match=r"features must have the shape \(8, 2\), got \(8, 3\)"):
        initial_memory(blank, wrong)


def test_more_users_than_there_is_room_for_are_a_sample():
    settings = settings_for("attentive_neighbours", seed=2, memory=3)
    model = user_memory(ITEMS, 2, members=3, scale=SCALE)
    start = memorised(settings, training_set(RATINGS))
    memory = start(model.init(jax.random.key(0), None))["memory"]
    for row, user in enumerate(memory.user.astype(int)):
        np.testing.assert_array_equal(memory.features[row], FEATURES[user])
        rated = RATINGS[user]
        assert rated.any()
        np.testing.assert_allclose(memory.preferences[row], np.where(rated, (rated - 1) / 4, 0))
    assert len(set(memory.user.tolist())) == 3


def test_unsupported_catalogues_and_objectives_are_refused():
    shapes = Shapes(30_000, 2, 1, SCALE)
    method = method_of("attentive_neighbours")
    problem = "method 'attentive_neighbours' is for at most 20,000 items, got 30,000"
    assert too_large(method, shapes.items) == problem
    assert too_large(method, 20_000) is None
    with pytest.raises(ValueError, match="objective must be of an order of items, got 'rating'"):
        user_memory_of(settings_for("attentive_neighbours", objective="rating"), shapes)
