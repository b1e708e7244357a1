import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import losses
from metajax.adaptation import cosine_prototypes, prototypes
from metajax.types import AmongPrototypes, Examples, Placed

PRIOR, PRIOR_LABEL, CLOSENESS, BIAS = np.array([1.0, -1.0]), 2.0, 0.5, 0.25


def place(params, inputs):
    """Inputs are places in the plane; `params` only scale them, to have something to learn."""
    rows = inputs.shape[0]
    return Placed(
        params * inputs,
        jnp.broadcast_to(jnp.asarray(PRIOR), inputs.shape),
        jnp.full(rows, PRIOR_LABEL),
        jnp.full(rows, CLOSENESS),
        jnp.full(rows, BIAS),
    )


def support_of(places, labels) -> Examples:
    return Examples(jnp.asarray(places), jnp.asarray(labels), jnp.ones(len(labels), bool))


SEEN = np.array([[0.0, 1.0], [2.0, 0.0]])
LABELS = np.array([1.0, 3.0])
ASKED = np.array([[1.0, 1.0], [-1.0, 0.5], [0.0, 0.0]])


def by_hand(sharpness, far):
    weights = np.exp(sharpness * np.array([PRIOR_LABEL, *LABELS]))
    prototype = weights @ np.vstack([PRIOR, SEEN]) / weights.sum()
    return BIAS - CLOSENESS * np.array([far(x, prototype) for x in ASKED])


def half_squared(x, y):
    return 0.5 * np.sum((x - y) ** 2)


def minus_cosine(x, y):
    return -x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-30)


@pytest.mark.parametrize(
    ("distance", "far"), [("euclidean", half_squared), ("cosine", minus_cosine)]
)
@pytest.mark.parametrize("sharpness", [0.0, 1.0, 2.0])
def test_the_prototype_is_the_softmax_weighted_mean_with_the_prior(distance, far, sharpness):
    rule = prototypes(place, distance=distance, sharpness=sharpness)
    adapted = rule.adapt(1.0, support_of(SEEN, LABELS))
    scores = rule.predict(1.0, adapted, jnp.asarray(ASKED))
    np.testing.assert_allclose(scores, by_hand(sharpness, far), rtol=1e-5, atol=1e-6)


def test_a_scale_bounds_the_scores_by_a_sigmoid():
    plain, bounded = prototypes(place), prototypes(place, scale=(1.0, 5.0))
    adapted = plain.adapt(1.0, support_of(SEEN, LABELS))
    scores = np.asarray(plain.predict(1.0, adapted, jnp.asarray(ASKED)), float)
    expected = 1 + 4 / (1 + np.exp(-scores))
    np.testing.assert_allclose(
        bounded.predict(1.0, adapted, jnp.asarray(ASKED)), expected, rtol=1e-6
    )


def test_labels_of_any_size_give_finite_scores_and_gradients():
    for labels in (LABELS * 1000, -LABELS * 1000, LABELS * 0):

        def score(params, labels=labels):
            rule = prototypes(place)
            adapted = rule.adapt(params, support_of(SEEN, labels))
            return jnp.sum(rule.predict(params, adapted, jnp.asarray(ASKED)))

        value, gradient = jax.value_and_grad(score)(1.0)
        assert np.isfinite(value)
        assert np.isfinite(gradient)


def test_a_cosine_to_nowhere_is_zero_and_has_a_gradient():
    rule = prototypes(place, distance="cosine")

    def score(params):
        adapted = rule.adapt(params, support_of(SEEN * 0, LABELS))
        return losses.masked_mean(rule.predict(params, adapted, jnp.asarray(ASKED * 0)))

    value, gradient = jax.value_and_grad(score)(1.0)
    np.testing.assert_allclose(value, BIAS, rtol=1e-6)
    assert np.isfinite(gradient)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": "manhattan"}, "distance must be one of euclidean, cosine, got 'manhattan'"),
        ({"scale": (5.0, 1.0)}, r"scale must be \(lowest, highest\), got \(5.0, 1.0\)"),
    ],
)
def test_invalid_values_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        prototypes(place, **options)


RNG = np.random.default_rng(0)
PROTOTYPE, WEIGHT, VALUE = RNG.normal(size=(2, 3)), np.array([0.5, 2.0]), np.array([0.3, -0.7])


def compare(sharpness, inputs):
    place, expected = inputs
    return AmongPrototypes(
        place,
        expected,
        jnp.asarray(PROTOTYPE),
        jnp.log(WEIGHT),
        jnp.broadcast_to(jnp.asarray(VALUE), (len(place), 2)),
        sharpness,
        jnp.array(5.0),
    )


RULE = cosine_prototypes(compare)


def cosine(a, b):
    return np.sum(a * b, axis=-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_a_score_is_the_mean_of_prototypes_weighed_by_a_softmax_of_cosines():
    seen, queried = RNG.normal(size=(4, 3)), RNG.normal(size=(6, 3))
    usual, labels = RNG.normal(size=4), RNG.normal(size=4)
    support = Examples(
        (jnp.asarray(seen), jnp.asarray(usual)), jnp.asarray(labels), jnp.ones(4) > 0
    )
    adapted = jax.jit(RULE.adapt)(2.0, support)
    scores = RULE.predict(2.0, adapted, (jnp.asarray(queried), jnp.zeros(6)))

    level = np.sum(labels - usual) / (5 + 4)
    values = np.concatenate([VALUE, labels - usual - level])
    expected = []
    for place in queried:
        weights = np.concatenate(
            [WEIGHT * np.exp(2 * cosine(place, PROTOTYPE)), np.exp(2 * cosine(place, seen))]
        )
        expected.append(level + weights @ values / weights.sum())
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_a_sharp_softmax_repeats_the_rating_of_the_same_direction():
    """The user rated something twice as far out in that very direction 1 above the level."""
    place = jnp.array([[0.0, 2.0, 0.0], [2.0, 0.0, 0.0]])
    labels = jnp.array([1.0, -1.0])
    support = Examples((place, jnp.zeros(2)), labels, jnp.ones(2) > 0)
    adapted = RULE.adapt(1e4, support)
    scores = RULE.predict(1e4, adapted, (place / 2, jnp.array([3.0, 3.0])))
    np.testing.assert_allclose(scores, [4.0, 2.0], rtol=1e-5)
