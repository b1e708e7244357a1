import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses, metrics
from metajax.types import Examples

ALL = {
    name: getattr(losses, name)
    for name in (
        "squared_error",
        "total_squared_error",
        "absolute_error",
        "sigmoid_cross_entropy",
        "softmax_cross_entropy",
        "bpr",
        "approximate_ndcg",
    )
}
ALL["sampled_softmax_cross_entropy"] = lambda scores, labels, where=None: (
    losses.sampled_softmax_cross_entropy(
        scores, labels, draws=jnp.full(scores.shape, 0.5), where=where
    )
)
KEPT = [True, True, False]


@pytest.mark.parametrize(
    ("name", "scores", "labels", "where", "expected"),
    [
        ("squared_error", [3, 1, 9], [1, 2, 0], None, (4 + 1 + 81) / 3),
        ("squared_error", [3, 1, 9], [1, 2, 0], KEPT, (4 + 1) / 2),
        ("total_squared_error", [3, 1, 9], [1, 2, 0], None, 4 + 1 + 81),
        ("total_squared_error", [3, 1, 9], [1, 2, 0], KEPT, 4 + 1),
        ("absolute_error", [3, 1, 9], [1, 2, 0], None, (2 + 1 + 9) / 3),
        ("absolute_error", [3, 1, 9], [1, 2, 0], KEPT, (2 + 1) / 2),
        # A logit of log 3 is a probability of 3/4.
        ("sigmoid_cross_entropy", [math.log(3), 0, 9], [1, 0, 0], KEPT, math.log(4 / 3 * 2) / 2),
        ("sigmoid_cross_entropy", [math.log(3)], [0.5], None, (math.log(4 / 3) + math.log(4)) / 2),
        # Exact where e^1000 would overflow.
        ("sigmoid_cross_entropy", [1000, -1000], [0, 0], None, 500),
        ("sigmoid_cross_entropy", [1000, -1000], [1, 0], None, 0),
        # Probabilities 1/4 and 3/4 of the two that are kept.
        ("softmax_cross_entropy", [0, math.log(3), 9], [1, 0, 0], KEPT, math.log(4)),
        ("softmax_cross_entropy", [0, math.log(3)], [1, 3], None, math.log(4) - 0.75 * math.log(3)),
        ("softmax_cross_entropy", [0, 1], [0, 0], None, 0),
        ("softmax_cross_entropy", [1000, -1000], [0, 1], None, 2000),
        # The pairs that differ: the first against each of the others, log(1 + e^-1) and log 2.
        ("bpr", [1, 0, 1], [1, 0, 0], None, (math.log1p(math.exp(-1)) + math.log(2)) / 2),
        ("bpr", [1, 0, 9], [1, 0, 0], KEPT, math.log1p(math.exp(-1))),
        ("bpr", [1, 0], [3, 3], None, 0),
    ],
)
def test_a_loss_is_its_arithmetic(name, scores, labels, where, expected):
    where = None if where is None else jnp.array(where)
    loss = ALL[name](jnp.array(scores, jnp.float32), jnp.array(labels, jnp.float32), where=where)
    assert loss.shape == ()
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("hidden", [np.nan, np.inf, -np.inf, 3e38])
def test_padding_reaches_neither_value_nor_gradient(name, hidden):
    slopes = jax.value_and_grad(
        lambda scores, labels, where: ALL[name](scores, labels, where=where), argnums=(0, 1)
    )
    seen = jnp.array([0.5, -2.0]), jnp.array([1.0, 0.0])
    padded = (jnp.append(values, hidden) for values in seen)
    value, gradients = slopes(*padded, jnp.array(KEPT))
    expected, expected_gradients = slopes(*seen, jnp.array([True, True]))
    np.testing.assert_array_equal(value, expected)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_array_equal(gradient, jnp.append(expected, 0))


@pytest.mark.parametrize("name", ALL)
def test_the_loss_of_an_empty_set_is_zero_and_so_is_its_gradient(name):
    labels, nothing = jnp.array([np.nan, 1.0]), jnp.array([False, False])
    value, gradient = jax.value_and_grad(lambda scores: ALL[name](scores, labels, where=nothing))(
        jnp.array([1.0, np.inf])
    )
    np.testing.assert_array_equal([value, *gradient], [0, 0, 0])
    empty = jnp.zeros(0)
    assert ALL[name](empty, empty) == 0


def test_a_gaussian_nll_is_its_arithmetic_and_ignores_padding():
    def nll(mean, variance):
        labels = jnp.array([1.0, 2.0, jnp.nan])
        return losses.gaussian_nll(mean, labels, variance=variance, where=jnp.array(KEPT))

    mean, variance = jnp.array([3.0, 2.0, jnp.inf]), jnp.array([4.0, 0.25, -1.0])
    value, slopes = jax.value_and_grad(nll, argnums=(0, 1))(mean, variance)
    # (log(2 pi 4) + 2^2 / 4) / 2 and log(2 pi / 4) / 2, averaged.
    terms = (math.log(8 * math.pi) + 1) / 2, math.log(math.pi / 2) / 2
    np.testing.assert_allclose(value, sum(terms) / 2, rtol=1e-6)
    # By the mean: error / variance. By the variance: (1 - error^2 / variance) / (2 variance).
    np.testing.assert_allclose(slopes[0], [2 / 4 / 2, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(slopes[1], [0, 1 / 0.5 / 2, 0], rtol=1e-6)
    assert losses.gaussian_nll(jnp.zeros(0), jnp.zeros(0), variance=jnp.zeros(0)) == 0


def test_blanked_examples_hold_zeros_where_there_is_padding():
    inputs = {"x": jnp.array([[1.0, 2.0], [jnp.nan, 3.0]]), "item": jnp.array([4, -7])}
    shown = losses.blanked(Examples(inputs, jnp.array([5.0, jnp.inf]), jnp.array([True, False])))
    np.testing.assert_array_equal(shown.inputs["x"], [[1, 2], [0, 0]])
    np.testing.assert_array_equal(shown.inputs["item"], [4, 0])
    np.testing.assert_array_equal(shown.labels, [5, 0])
    assert shown.inputs["item"].dtype == inputs["item"].dtype


def test_a_masked_mean_averages_the_kept_values():
    values = jnp.array([1.0, 2.0, np.nan])
    assert losses.masked_mean(values[:2]) == 1.5
    assert losses.masked_mean(values, jnp.array(KEPT)) == 1.5
    assert losses.masked_mean(values, jnp.array([False, True, False])) == 2
    assert losses.masked_mean(values, jnp.zeros(3, bool)) == 0


def test_a_loss_on_examples_hides_their_padding_from_the_network():
    # One weight matrix and one table of rows: a product with NaN, a gather out of range.
    def apply(params, inputs):
        return inputs["x"] @ params["w"] + params["b"][inputs["item"]]

    loss = losses.on_examples(apply, losses.squared_error)
    params = {"w": jnp.array([1.0, -1.0]), "b": jnp.array([0.5, 1.0])}
    inputs = {
        "x": jnp.array([[3.0, 1.0], [np.nan, np.inf]]),
        "item": jnp.array([1, 10**6]),
    }
    padded = Examples(inputs, jnp.array([1.0, np.nan]), jnp.array([True, False]))
    value, gradient = jax.value_and_grad(loss)(params, padded)
    # The error is 3 - 1 + 1 - 1 = 2; its square's slope is 4.
    assert value == 4
    np.testing.assert_array_equal(gradient["w"], [12, 4])
    np.testing.assert_array_equal(gradient["b"], [0, 4])


@pytest.mark.parametrize("seed", range(4))
def test_cold_ranks_are_those_of_ndcg(seed):
    """With scores far apart and the list's end far from what is relevant."""
    rng = np.random.default_rng(seed)
    scores = jnp.array(rng.permutation(12), jnp.float32)
    labels = jnp.where(scores > 5, rng.integers(0, 2, 12), 0)
    where = jnp.array(rng.random(12) < 0.8)
    loss = losses.approximate_ndcg(scores, labels, where=where, k=20, temperature=1e-3)
    expected = metrics.ndcg(scores, labels, k=20, where=where)
    nothing = not jnp.any(labels[where])
    np.testing.assert_allclose(loss, 0 if nothing else 1 - expected, atol=1e-5)


def test_smooth_ndcg_cannot_be_had_by_larger_or_shifted_scores():
    rng = np.random.default_rng(0)
    scores, labels = jnp.array(rng.normal(size=30)), jnp.array(rng.integers(0, 2, 30))
    one, other = (losses.approximate_ndcg(s, labels) for s in (scores, 7 * scores - 3))
    np.testing.assert_allclose(one, other, rtol=1e-4)


def test_smooth_ndcg_moves_the_relevant_up_and_survives_ties():
    smooth = partial(losses.approximate_ndcg, temperature=1.0)
    gradient = jax.grad(smooth)(jnp.array([0.1, 0.0, 0.3]), jnp.eye(3)[1])
    assert gradient[1] < 0
    tied = jax.grad(losses.approximate_ndcg)(jnp.zeros(3), jnp.eye(3)[1])
    assert np.isfinite(tied).all()


def test_a_shrunk_mean_counts_examples_without_an_error():
    scores, labels = jnp.array([1.0, 2.0, jnp.nan]), jnp.array([2.0, 4.0, 0.0])
    where = jnp.array([True, True, False])
    # (1 + 4) / (2 + 3)
    assert float(losses.shrunk_squared_error(scores, labels, prior=3.0, where=where)) == 1.0
    assert float(losses.shrunk_squared_error(scores[:2], labels[:2], prior=3.0)) == 1.0


SHAPES = [
    # A column for a row: each score would meet each label.
    ((4,), (4, 1), None, r"labels must have the shape of scores, \(4,\), got \(4, 1\)"),
    ((4,), (3,), None, r"labels must have the shape of scores, \(4,\), got \(3,\)"),
    ((4,), (4,), (4, 1), r"where must have the shape of scores, \(4,\), got \(4, 1\)"),
    ((4,), (), None, r"labels must have the shape of scores, \(4,\), got \(\)"),
]


@pytest.mark.parametrize(("scores", "labels", "where", "message"), SHAPES)
@pytest.mark.parametrize("name", [*ALL, "shrunk_squared_error"])
def test_a_loss_refuses_shapes_that_differ(name, scores, labels, where, message):
    loss = {**ALL, "shrunk_squared_error": partial(losses.shrunk_squared_error, prior=1.0)}[name]
    where = None if where is None else jnp.ones(where, bool)
    with pytest.raises(ValueError, match=message):
        jax.jit(loss)(jnp.zeros(scores), jnp.zeros(labels), where=where)


@pytest.mark.parametrize(
    "name",
    [
        "softmax_cross_entropy",
        "sampled_softmax_cross_entropy",
        "bpr",
        "approximate_ndcg",
    ],
)
def test_a_loss_of_a_list_refuses_a_batch_of_them(name):
    with pytest.raises(ValueError, match=r"scores must have the shape \[N\], got \(2, 3\)"):
        ALL[name](jnp.zeros((2, 3)), jnp.zeros((2, 3)))


def test_the_likelihood_and_the_mean_refuse_shapes_that_differ():
    with pytest.raises(ValueError, match=r"variance must have the shape of mean, \(2,\), got \(\)"):
        losses.gaussian_nll(jnp.zeros(2), jnp.zeros(2), variance=jnp.ones(()))
    with pytest.raises(ValueError, match=r"where must have the shape of values, \(2,\), got \(1,"):
        losses.masked_mean(jnp.zeros(2), jnp.ones(1, bool))


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (Examples(jnp.ones((3, 2)), jnp.ones((3, 1)), jnp.ones(3, bool)), r"labels .* got \(3, 1"),
        (Examples(jnp.ones((3, 2)), jnp.ones(3), jnp.ones(2, bool)), r"mask, \(2,\), got \(3,"),
        (Examples(jnp.ones((2, 2)), jnp.ones(3), jnp.ones(3, bool)), r"inputs .* got \(2, 2"),
        (Examples(jnp.ones((3, 2)), jnp.ones((3, 1))), r"mask must have the shape \[N\]"),
    ],
)
def test_examples_of_shapes_that_differ_are_refused(examples, message):
    with pytest.raises(ValueError, match=message):
        losses.blanked(examples)


def test_scores_that_are_no_list_are_refused():
    loss_fn = losses.on_examples(lambda w, x: x * w, lambda s, y, *, where=None: jnp.sum(s - y))
    with pytest.raises(ValueError, match=r"scores must have the shape of labels, \(3,\), got \(3,"):
        loss_fn(jnp.ones(()), Examples(jnp.ones((3, 1)), jnp.ones(3), jnp.ones(3, bool)))


def test_a_mask_of_none_keeps_all():
    without = Examples(jnp.arange(3.0), jnp.array([1.0, 1.0, 5.0]))
    assert without.mask is None
    loss_fn = losses.on_examples(lambda w, x: w * x, losses.squared_error)
    assert loss_fn(jnp.array(1.0), without) == (1 + 0 + 9) / 3
    np.testing.assert_array_equal(losses.blanked(without).mask, jnp.ones(3, bool))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (optax.squared_error, (1 + 4) / 2),
        (optax.l2_loss, (1 + 4) / 4),
        (partial(optax.huber_loss, delta=1.0), (0.5 + 1.5) / 2),
        (lambda s, y: jnp.abs(s - y), (1 + 2) / 2),
    ],
)
def test_an_elementwise_loss_is_averaged_by_the_mask(loss, expected):
    examples = Examples(jnp.array([1.0, 2.0, jnp.nan]), jnp.zeros(3), jnp.array(KEPT))
    loss_fn = losses.on_examples(lambda w, x: w * x, loss)
    value, slope = jax.value_and_grad(loss_fn)(jnp.array(1.0), examples)
    assert value == expected
    assert jnp.isfinite(slope)


def test_an_elementwise_loss_sees_no_padding():
    loss = losses.with_mask(lambda s, y: jnp.square(s - y))
    given = jnp.array([1.0, jnp.nan, jnp.inf]), jnp.array([3.0, jnp.inf, jnp.nan])
    kept = jnp.array([True, False, False])
    value, slope = jax.value_and_grad(lambda s: loss(s, given[1], where=kept))(given[0])
    assert value == 4
    np.testing.assert_array_equal(slope, [-4, 0, 0])


def test_a_loss_that_takes_no_mask_and_is_not_elementwise_is_refused():
    loss = losses.with_mask(lambda s, y: jnp.mean(s - y))
    with pytest.raises(ValueError, match=r"must take a mask, `where`, or return a value for each"):
        loss(jnp.zeros(3), jnp.zeros(3))


def test_a_loss_with_a_mask_stays_as_it_is():
    assert losses.with_mask(losses.bpr) is losses.bpr
    assert losses.with_mask(optax.losses.ranking_softmax_loss) is optax.losses.ranking_softmax_loss


@pytest.mark.parametrize("at", ["labels", "where"])
@pytest.mark.parametrize(
    "name", ["precision", "recall", "hit_rate", "ndcg", "auc", "mse", "rmse", "mae"]
)
def test_a_metric_refuses_shapes_that_differ(name, at):
    metric = getattr(metrics, name)
    if name in ("precision", "recall", "hit_rate", "ndcg"):
        metric = partial(metric, k=2)
    given = {"labels": jnp.ones(4), "where": jnp.ones(4, bool)}
    given[at] = given[at][:, None]
    with pytest.raises(
        ValueError, match=rf"{at} must have the shape of scores, \(4,\), got \(4, 1"
    ):
        metric(jnp.arange(4.0), given["labels"], where=given["where"])


def test_the_top_items_are_of_one_list():
    with pytest.raises(ValueError, match=r"scores must have the shape \[N\], got \(2, 4\)"):
        metrics.top_items(jnp.zeros((2, 4)), k=2)


def test_a_softmax_over_popular_draws_tends_to_that_over_all_items():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 1.5, 60)
    popular = np.exp(scores / 2 + rng.normal(0, 0.5, 60))
    own, others = np.arange(2), np.arange(2, 60)
    labels = np.zeros(60)
    labels[own] = 1
    whole = jax.value_and_grad(losses.softmax_cross_entropy)(jnp.array(scores), jnp.array(labels))
    share = popular[others] / popular[others].sum()
    drawn = rng.choice(others, 40_000, p=share)
    item = np.append(own, drawn)
    draws = np.append([1.0, 1.0], len(drawn) * share[drawn - 2])

    def sampled(scores, draws):
        return losses.sampled_softmax_cross_entropy(
            scores[item], jnp.array(labels[item] * (np.arange(len(item)) < 2)), draws=draws
        )

    found = jax.value_and_grad(sampled)(jnp.array(scores), jnp.array(draws))
    np.testing.assert_allclose(found[0], whole[0], rtol=3e-3)
    # Of n draws with a share q each, five deviations of the number of them.
    noise = 5 / np.sqrt(len(drawn) * share)
    np.testing.assert_allclose(found[1][own], whole[1][own], atol=3e-3)
    assert (np.abs(found[1][others] / whole[1][others] - 1) < noise).all()
    # Without the correction popular items count as often as they are drawn.
    uncorrected = sampled(jnp.array(scores), jnp.full(len(item), len(drawn) / 58))
    assert abs(uncorrected - whole[0]) > 0.1


def test_draws_must_be_one_a_score():
    with pytest.raises(ValueError, match=r"draws must have the shape of scores, \(3,\), got \(2,"):
        losses.sampled_softmax_cross_entropy(jnp.zeros(3), jnp.zeros(3), draws=jnp.ones(2))
