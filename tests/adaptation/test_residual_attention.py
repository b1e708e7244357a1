import jax.numpy as jnp
import numpy as np

from metajax.adaptation import residual_attention
from metajax.types import Examples, Matched

HEADS, WIDTH = 2, 3
RNG = np.random.default_rng(0)
LABELS = np.array([5.0, 1.0, 3.0])


def match(params, inputs):
    return Matched(*(inputs[name] for name in Matched._fields))


def rows(n, **fixed):
    drawn = {
        "query": RNG.normal(size=(n, HEADS, WIDTH)),
        "key": RNG.normal(size=(n, HEADS, WIDTH)),
        "prior": RNG.normal(size=(n, HEADS)),
        "score": RNG.normal(size=n),
        "expected": RNG.normal(size=n),
        "gain": RNG.normal(size=n),
    }
    return {name: jnp.asarray(fixed.get(name, value)) for name, value in drawn.items()}


def scores_of(seen, queried):
    rule = residual_attention(match)
    adapted = rule.adapt(None, Examples(seen, jnp.asarray(LABELS), jnp.ones(len(LABELS), bool)))
    return rule.predict(None, adapted, queried)


def test_scores_are_zero_shot_scores_plus_attended_residuals():
    seen, queried = rows(3), rows(4)
    expected = np.asarray(queried["score"], float)
    for i in range(4):
        for h in range(HEADS):
            dots = [np.dot(queried["query"][i, h], seen["key"][j, h]) for j in range(3)]
            logits = np.array([queried["prior"][i, h], *(np.array(dots) / np.sqrt(WIDTH))])
            weights = np.exp(logits) / np.exp(logits).sum()
            surprise = np.asarray(seen["gain"]) * (LABELS - np.asarray(seen["expected"]))
            expected[i] += weights[1:] @ surprise / HEADS
    np.testing.assert_allclose(scores_of(seen, queried), expected, rtol=1e-5, atol=1e-6)


def test_equal_keys_give_the_shrunk_mean_of_the_labels():
    # Three examples and a slot of weight two: (2 * 3.5 + 5 + 1 + 3) / 5 = 3.2.
    same = {"expected": np.full(3, 3.5), "gain": np.ones(3), "key": np.zeros((3, HEADS, WIDTH))}
    queried = rows(1, score=np.array([3.5]), prior=np.full((1, HEADS), np.log(2)))
    np.testing.assert_allclose(scores_of(rows(3, **same), queried), [3.2], rtol=1e-6)
