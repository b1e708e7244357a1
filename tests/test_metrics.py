import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import metrics

RANKING = (metrics.precision, metrics.recall, metrics.hit_rate, metrics.ndcg)
SECOND, THIRD = 1 / np.log2(3), 1 / np.log2(4)
ALL = None


# One row: metric, k, scores, labels, where, the arithmetic.
@pytest.mark.parametrize(
    ("metric", "k", "scores", "labels", "where", "expected"),
    [
        (metrics.precision, 2, [3, 2, 1], [1, 0, 1], ALL, 1 / 2),
        (metrics.recall, 2, [3, 2, 1], [1, 0, 1], ALL, 1 / 2),
        (metrics.hit_rate, 1, [3, 2, 1], [1, 0, 1], ALL, 1),
        (metrics.hit_rate, 1, [1, 2, 3], [1, 0, 0], ALL, 0),
        (metrics.hit_rate, 3, [1, 2, 3], [1, 0, 0], ALL, 1),
        (metrics.ndcg, 3, [3, 2, 1], [1, 0, 1], ALL, (1 + THIRD) / (1 + SECOND)),
        (metrics.ndcg, 1, [1, 2, 3], [1, 0, 1], ALL, 1 / 1),
        (metrics.ndcg, 2, [1, 2, 3], [1, 0, 0], ALL, 0 / 1),
        # The best list of two holds two of the three relevant items.
        (metrics.ndcg, 2, [1, 3, 2], [1, 1, 1], ALL, 1),
        # Graded labels count as relevant or not.
        (metrics.ndcg, 3, [3, 2, 1], [5.0, 0, 0.5], ALL, (1 + THIRD) / (1 + SECOND)),
        # An excluded item is neither recommended nor missed.
        (metrics.precision, 2, [3, 2, 1], [1, 0, 1], [False, True, True], 1 / 2),
        (metrics.recall, 1, [3, 2, 1], [1, 0, 1], [False, True, True], 0 / 1),
        (metrics.ndcg, 2, [3, 2, 1], [1, 0, 1], [False, True, True], SECOND / 1),
        # k beyond the catalogue: empty places are misses.
        (metrics.precision, 10, [3, 2], [1, 1], ALL, 2 / 10),
        (metrics.recall, 10, [3, 2], [1, 1], ALL, 2 / 2),
        (metrics.ndcg, 10, [3, 2], [0, 1], ALL, SECOND / 1),
        (metrics.hit_rate, 10, [3, 2], [0, 1], [True, False], 0),
        # Of equal scores the lower index ranks first.
        (metrics.hit_rate, 1, [1, 1, 1], [1, 0, 0], ALL, 1),
        (metrics.hit_rate, 1, [1, 1, 1], [0, 1, 1], ALL, 0),
        # NaN ranks last, also behind -inf and before what is excluded.
        (metrics.hit_rate, 1, [np.nan, 0], [1, 0], ALL, 0),
        (metrics.hit_rate, 1, [np.nan, 0], [1, 0], [True, False], 1),
        (metrics.hit_rate, 1, [0, -np.inf], [0, 1], [False, True], 1),
        # Of two pairs one is in order; of equal scores half a pair is.
        (metrics.auc, None, [3, 2, 1], [1, 0, 1], ALL, 1 / 2),
        (metrics.auc, None, [2, 2, 1, 3], [1, 0, 0, 1], ALL, (0.5 + 1 + 2) / 4),
        (metrics.auc, None, [9, 2, 1], [0, 1, 0], [False, True, True], 1),
        (metrics.auc, None, [np.nan, 1], [1, 0], ALL, 0),
        (metrics.auc, None, [2, 1], [1, 1], ALL, 1 / 2),
        (metrics.auc, None, [np.inf, 1, 2, 3], [1, 0, 0, 0], [True, True, False, False], 1),
        (metrics.mse, None, [1, 2, 3], [1, 0, 0], ALL, (0 + 4 + 9) / 3),
        (metrics.rmse, None, [1, 2, 3], [1, 0, 0], [True, True, False], np.sqrt((0 + 4) / 2)),
        (metrics.mae, None, [1, 2, -3], [1, 0, 0], ALL, (0 + 2 + 3) / 3),
        (metrics.rmse, None, [np.nan, 2], [1, 0], [False, True], 2),
        (metrics.rmse, None, [1, 2], [0, 0], [False, False], 0),
    ],
)
def test_metrics_equal_the_arithmetic(metric, k, scores, labels, where, expected):
    options = {} if k is None else {"k": k}
    where = None if where is None else jnp.array(where)
    scores, labels = jnp.array(scores, jnp.float32), jnp.array(labels, jnp.float32)
    np.testing.assert_allclose(metric(scores, labels, where=where, **options), expected, rtol=1e-6)


@pytest.mark.parametrize("metric", RANKING)
@pytest.mark.parametrize("where", [None, [True, True, False]])
def test_no_relevant_item_gives_zero(metric, where):
    where = None if where is None else jnp.array(where)
    assert metric(jnp.arange(3.0), jnp.array([0, 0, int(where is not None)]), k=2, where=where) == 0


@pytest.mark.parametrize("metric", RANKING)
def test_everything_masked_gives_zero(metric):
    assert metric(jnp.ones(3), jnp.ones(3), k=2, where=jnp.zeros(3, bool)) == 0


def in_numpy(scores, labels, where, k):
    left = np.flatnonzero(where)
    top = left[np.argsort(-scores[left], kind="stable")][:k]
    gains, relevant = (labels[top] > 0).astype(float), (labels[left] > 0).sum()
    discount = 1 / np.log2(np.arange(k) + 2)
    ideal = discount[: min(k, relevant)].sum()
    return (
        gains.sum() / k,
        gains.sum() / max(relevant, 1),
        float(gains.any()),
        (gains * discount[: len(top)]).sum() / (ideal or 1),
    )


@pytest.mark.parametrize("k", [1, 5, 30])
def test_vmap_equals_a_loop_in_numpy(k):
    rng = np.random.default_rng(k)
    # Few distinct values, so that ties are common.
    scores = rng.integers(0, 5, (40, 20)).astype(np.float32)
    labels, where = rng.random((40, 20)) < 0.2, rng.random((40, 20)) < 0.7

    @jax.jit
    @jax.vmap
    def values(scores, labels, where):
        return [metric(scores, labels, k=k, where=where) for metric in RANKING]

    expected = [in_numpy(*row, k) for row in zip(scores, labels, where, strict=True)]
    np.testing.assert_allclose(np.stack(values(scores, labels, where), 1), expected, rtol=1e-5)


def test_more_pairs_than_an_integer_can_count_do_not_overflow():
    relevant = jnp.arange(100_000) % 2
    scores = relevant.astype(jnp.float32)
    assert metrics.auc(scores, relevant) == pytest.approx(1, abs=1e-4)
    assert metrics.auc(-scores, relevant) == pytest.approx(0, abs=1e-4)


def test_coverage_counts_each_item_once():
    assert metrics.coverage(jnp.array([[0, 1, -1], [1, 0, -1]]), items=5) == np.float32(2 / 5)


def test_coverage_of_no_lists_is_zero():
    assert metrics.coverage(jnp.zeros((0, 3), jnp.int32), items=5) == 0


def test_a_list_has_at_least_one_place():
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        metrics.top_items(jnp.ones(3), k=0)
