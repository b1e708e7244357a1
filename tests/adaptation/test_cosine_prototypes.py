import jax
import jax.numpy as jnp
import numpy as np

from metajax.adaptation import cosine_prototypes
from metajax.types import AmongPrototypes, Examples

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
    seen, asked = RNG.normal(size=(4, 3)), RNG.normal(size=(6, 3))
    usual, labels = RNG.normal(size=4), RNG.normal(size=4)
    support = Examples(
        (jnp.asarray(seen), jnp.asarray(usual)), jnp.asarray(labels), jnp.ones(4) > 0
    )
    adapted = jax.jit(RULE.adapt)(2.0, support)
    scores = RULE.predict(2.0, adapted, (jnp.asarray(asked), jnp.zeros(6)))

    level = np.sum(labels - usual) / (5 + 4)
    values = np.concatenate([VALUE, labels - usual - level])
    expected = []
    for place in asked:
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
