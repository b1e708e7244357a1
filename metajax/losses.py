"""Losses of scores against labels, with a mask in every signature.

Padding may hold anything, NaN included: it reaches neither a value nor a gradient. A mask of None
keeps all. Scores, labels and mask have one shape; others raise a ValueError, as broadcasting
`[N]` against `[N, 1]` would compare every score with every label.
"""

import inspect
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from metajax.types import Apply, ElementwiseLoss, Examples, Loss, MaskedLoss, Params

__all__ = [
    "absolute_error",
    "approximate_ndcg",
    "blanked",
    "bpr",
    "check_list",
    "check_shapes",
    "gaussian_nll",
    "masked_mean",
    "on_examples",
    "sampled_softmax_cross_entropy",
    "shrunk_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "squared_error",
    "total_squared_error",
    "with_mask",
]


def check_shapes(**arrays: Any) -> None:
    """Checks that arrays have the shape of the first of them.

    Args:
        **arrays: By name; None is left out.

    Raises:
        ValueError: If a shape differs.

    Example:
        >>> check_shapes(scores=jnp.zeros(4), labels=jnp.zeros((4, 1)))
        Traceback (most recent call last):
        ValueError: labels must have the shape of scores, (4,), got (4, 1).
    """
    shapes = {name: jnp.shape(array) for name, array in arrays.items() if array is not None}
    (first, expected), *others = shapes.items()
    for name, shape in others:
        if shape != expected:
            raise ValueError(f"{name} must have the shape of {first}, {expected}, got {shape}.")


def check_list(**arrays: Any) -> None:
    """Checks as `check_shapes`, and that the arrays have one axis: the items of one list.

    Raises:
        ValueError: If a shape differs or is not `[N]`.
    """
    check_shapes(**arrays)
    first, array = next(iter(arrays.items()))
    if jnp.ndim(array) != 1:
        raise ValueError(f"{first} must have the shape [N], got {jnp.shape(array)}.")


def masked_mean(values: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Averages the values that the mask keeps; the mean of nothing is 0.

    Args:
        values: `[N]` values.
        where: `[N]` bool, or None to keep all.

    Returns:
        `[]` the mean.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> float(masked_mean(jnp.array([1., 2., jnp.nan]), jnp.array([True, True, False])))
        1.5
    """
    check_shapes(values=values, where=where)
    if where is None:
        where = jnp.ones(values.shape, bool)
    return jnp.sum(jnp.where(where, values, 0)) / jnp.maximum(jnp.sum(where), 1)


def blanked(examples: Examples) -> Examples:
    """Replaces padding by zeros, and a mask of None by one that keeps all.

    A mask on the results alone is not enough: the gradient of a layer there is its inputs times
    zero, and NaN times zero is NaN.

    Args:
        examples: N examples of one task.

    Returns:
        The same examples, with padding of 0.

    Raises:
        ValueError: If the labels or the mask are not `[N]`, or a leaf of the inputs does not lead
            with N.
    """
    labels, mask = examples.labels, examples.mask
    mask = jnp.ones(jnp.shape(labels), bool) if mask is None else mask
    check_list(mask=mask, labels=labels)
    for leaf in jax.tree.leaves(examples.inputs):
        if jnp.shape(leaf)[:1] != mask.shape:
            raise ValueError(
                f"inputs must lead with the axis of labels, {mask.shape}, got {jnp.shape(leaf)}."
            )

    def kept(leaf: jax.Array) -> jax.Array:
        return jnp.where(jnp.expand_dims(mask, range(1, jnp.ndim(leaf))), leaf, 0)

    return Examples(jax.tree.map(kept, examples.inputs), kept(labels), mask)


def with_mask(loss: Loss) -> MaskedLoss:
    """Gives a loss without a mask one: elementwise losses, such as Optax's, are averaged by it.

    Args:
        loss: `loss(scores, labels, *, where) -> []`, returned as it is, or
            `loss(scores, labels) -> [N]`.

    Returns:
        `loss(scores, labels, *, where) -> []`.

    Raises:
        ValueError: From a call, if a loss without a mask does not return a value for each score.

    Example:
        >>> import optax
        >>> loss = with_mask(optax.squared_error)
        >>> float(loss(jnp.array([1.0, 9.0]), jnp.zeros(2), where=jnp.array([True, False])))
        1.0
    """
    try:
        parameters = inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return cast(MaskedLoss, loss)
    if "where" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return cast(MaskedLoss, loss)
    each = cast(ElementwiseLoss, loss)

    def averaged(
        scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None
    ) -> jax.Array:
        check_shapes(scores=scores, labels=labels, where=where)
        if where is not None:
            scores, labels = jnp.where(where, scores, 0), jnp.where(where, labels, 0)
        values = each(scores, labels)
        if jnp.shape(values) != jnp.shape(scores):
            raise ValueError(
                "loss must take a mask, `where`, or return a value for each score, "
                f"{jnp.shape(scores)}, got {jnp.shape(values)}."
            )
        return masked_mean(values, where)

    return averaged


def on_examples(apply: Apply, loss: Loss) -> Callable[[Params, Examples], jax.Array]:
    """Turns a loss of scores into a loss of parameters.

    Padding is shown as zeros.

    Args:
        apply: `apply(params, inputs) -> scores [N]`, or a tree of arrays that the loss takes.
        loss: `loss(scores, labels, *, where) -> []`, or elementwise as in `with_mask`.

    Returns:
        `loss_fn(params, examples) -> []`, the function that inner and outer loops differentiate.
        It raises a ValueError for examples as in `blanked`, and where scores are not `[N]`.
    """
    masked_loss = with_mask(loss)

    def loss_fn(params: Params, examples: Examples) -> jax.Array:
        inputs, labels, mask = blanked(examples)
        scores = apply(params, inputs)
        if hasattr(scores, "shape"):
            check_shapes(labels=labels, scores=scores)
        return masked_loss(scores, labels, where=mask)

    return loss_fn


def squared_error(
    scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Averages `(score - label)^2` over the examples that the mask keeps.

    Args:
        scores: `[N]` predictions.
        labels: `[N]` observations.
        where: `[N]` bool, or None to keep all.

    Returns:
        `[]` the mean squared error; 0 where nothing is kept.

    Raises:
        ValueError: If the shapes differ.
    """
    return masked_mean(jnp.square(_error(scores, labels, where)), where)


def total_squared_error(
    scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Sums `(score - label)^2` over the examples that the mask keeps.

    As an inner loss it is the negative log-likelihood of a Gaussian, up to a factor: each further
    example counts as much as the first, and steps of one size correspond to one prior, whatever
    the size of the support.

    Args, Returns and Raises: as in `squared_error`.
    """
    return jnp.sum(jnp.square(_error(scores, labels, where)))


def shrunk_squared_error(
    scores: jax.Array,
    labels: jax.Array,
    *,
    prior: float,
    where: jax.Array | None = None,
) -> jax.Array:
    """Averages `(score - label)^2` with `prior` additional examples of error 0.

    As an inner loss it lies between the sum and the mean: the first examples count as in the sum,
    and with many examples the steps remain bounded.

    Args:
        scores: `[N]` predictions.
        labels: `[N]` observations.
        prior: Number of additional examples, > 0.
        where: `[N]` bool, or None to keep all.

    Returns:
        `[]` the shrunk mean.

    Raises:
        ValueError: If the shapes differ.
    """
    count = jnp.sum(where) if where is not None else labels.size
    return total_squared_error(scores, labels, where=where) / (prior + count)


def absolute_error(
    scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Averages `|score - label|` over the examples that the mask keeps.

    Args, Returns and Raises: as in `squared_error`.
    """
    return masked_mean(jnp.abs(_error(scores, labels, where)), where)


def sigmoid_cross_entropy(
    scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Averages the cross-entropy of labels in [0, 1] against scores in logits.

    Args, Returns and Raises: as in `squared_error`.
    """
    check_shapes(scores=scores, labels=labels, where=where)
    if where is not None:
        scores, labels = jnp.where(where, scores, 0), jnp.where(where, labels, 0)
    # log(1 + e^s) - s y, in the form that does not overflow.
    return masked_mean(jnp.logaddexp(0.0, scores) - scores * labels, where)


def gaussian_nll(
    mean: jax.Array,
    labels: jax.Array,
    *,
    variance: jax.Array,
    where: jax.Array | None = None,
) -> jax.Array:
    """Averages `-log N(label; mean, variance)` over the examples that the mask keeps.

    Args:
        mean: `[N]` predicted means.
        labels: `[N]` observations.
        variance: `[N]` predicted variances, > 0.
        where: `[N]` bool, or None to keep all.

    Returns:
        `[]` the mean, in nats; 0 where nothing is kept.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> import math
        >>> nll = gaussian_nll(jnp.zeros(1), jnp.zeros(1), variance=jnp.ones(1) / (2 * math.pi))
        >>> abs(float(nll)) < 1e-6
        True
    """
    check_shapes(mean=mean, labels=labels, variance=variance, where=where)
    variance = variance if where is None else jnp.where(where, variance, 1)
    error = _error(mean, labels, where)
    nll = 0.5 * (jnp.log(2 * jnp.pi * variance) + jnp.square(error) / variance)
    return masked_mean(nll, where)


def softmax_cross_entropy(
    scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Averages `-log softmax(scores)` over a list of candidates, weighted by their labels.

    Args:
        scores: `[N]` scores of the candidates.
        labels: `[N]` relevances >= 0, for instance 1 for liked items and 0 for the others.
        where: `[N]` bool, or None to keep all; masked items are no candidates.

    Returns:
        `[]` the loss; 0 where nothing is relevant.

    Raises:
        ValueError: If the shapes differ or are not `[N]`.

    Example:
        >>> float(softmax_cross_entropy(jnp.zeros(4), jnp.array([1., 0., 1., 0.])))  # log 4
        1.3862943649291992

    References:
        Liang et al., Variational Autoencoders for Collaborative Filtering, WWW 2018, equation 2,
        here divided by the sum of the labels.
    """
    where, scores, labels = _candidates(scores, labels, where)
    # A logarithm over nothing is kept finite, so that its gradient is 0 and not NaN.
    logits = jnp.where(where, scores, jnp.where(where.any(), -jnp.inf, 0))
    nll = jax.nn.logsumexp(logits) - scores
    total = jnp.sum(labels)
    return jnp.sum(labels * nll) / jnp.where(total > 0, total, 1)


def sampled_softmax_cross_entropy(
    scores: jax.Array,
    labels: jax.Array,
    *,
    draws: jax.Array,
    where: jax.Array | None = None,
) -> jax.Array:
    """Averages `-log softmax` over a sample of the candidates, weighted by their labels.

    The log-Q correction: of each score the logarithm of the expected number of draws of its
    candidate is subtracted, so that a sum of exponentials over the sample has the mean of that over
    all candidates. With more draws the loss tends to `softmax_cross_entropy` of all.

    Args:
        scores: `[N]` scores of the sampled candidates; one that was drawn twice is there twice.
        labels: `[N]` relevances >= 0 of what is asked for.
        draws: `[N]` expected numbers of draws, > 0: 1 of candidates that are always there, such as
            the user's own; `n q` of those of which n are drawn with a probability q each.
        where: `[N]` bool, or None to keep all; masked items are no candidates.

    Returns:
        `[]` the loss; 0 where nothing is relevant.

    Raises:
        ValueError: If the shapes differ or are not `[N]`.

    Example:
        >>> one_of_three = jnp.array([1., 0., 0.])
        >>> draws = jnp.array([1., 2 / 9, 2 / 9])  # Two of the nine other items.
        >>> float(sampled_softmax_cross_entropy(jnp.zeros(3), one_of_three, draws=draws))  # log 10
        2.3025851249694824

    References:
        Bengio and Senecal, Adaptive Importance Sampling to Accelerate Training of a Neural
        Probabilistic Language Model, IEEE Transactions on Neural Networks 19, 2008, section III;
        Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations,
        RecSys 2019, equation 4.
    """
    where, scores, labels = _candidates(scores, labels, where)
    check_list(scores=scores, draws=draws)
    offset = jnp.log(jnp.where(where, draws, 1))
    logits = jnp.where(where, scores - offset, jnp.where(where.any(), -jnp.inf, 0))
    nll = jax.nn.logsumexp(logits) - scores + offset
    total = jnp.sum(labels)
    return jnp.sum(labels * nll) / jnp.where(total > 0, total, 1)


def bpr(scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None) -> jax.Array:
    """Averages `log(1 + exp(s_j - s_i))` over the pairs in which i is more relevant than j.

    Memory is N^2: meant for sampled candidates, not for a whole catalogue.

    Args:
        scores: `[N]` scores of the candidates.
        labels: `[N]` relevances; only their order matters.
        where: `[N]` bool, or None to keep all.

    Returns:
        `[]` the loss; 0 where no pair differs.

    Raises:
        ValueError: If the shapes differ or are not `[N]`.

    References:
        Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009,
        section 4.1, without the penalty.
    """
    where, scores, labels = _candidates(scores, labels, where)
    better = (labels[:, None] > labels[None, :]) & where[:, None] & where[None, :]
    return masked_mean(jnp.logaddexp(0.0, scores[None, :] - scores[:, None]), better)


def approximate_ndcg(
    scores: jax.Array,
    labels: jax.Array,
    *,
    where: jax.Array | None = None,
    k: int = 10,
    temperature: float = 0.04,
    pool: int = 64,
) -> jax.Array:
    """Smooth approximation of 1 - NDCG@k.

    The rank of an item counts the items above it, each by a sigmoid of the difference of scores;
    the cut at rank k is a sigmoid too. Scores are measured in standard deviations of those that
    take part, so that a larger scale of all scores does not lower the loss.

    Args:
        scores: `[N]` scores of the candidates.
        labels: `[N]` relevant where above 0.
        where: `[N]` bool, or None to keep all; masked items are no candidates.
        k: Length of the list, >= 1.
        temperature: Of the sigmoids, > 0: the lower, the closer to NDCG and the fewer the items
            that a gradient reaches.
        pool: Number of the highest scores that take part; the others are too far from the list.
            Memory is its square.

    Returns:
        `[]` the loss, from 0 to 1; 0 where nothing is relevant.

    Raises:
        ValueError: If the shapes differ or are not `[N]`.

    Example:
        >>> scores, labels = jnp.arange(6.), jnp.array([0., 0., 0., 1., 1., 1.])
        >>> best, worst = approximate_ndcg(scores, labels), approximate_ndcg(-scores, labels)
        >>> float(best) < 0.01, 0.4 < float(worst)
        (True, True)

    References:
        Qin, Liu and Li, A General Approximation Framework for Direct Optimization of Information
        Retrieval Measures, Information Retrieval 13, 2010, sections 4.1 and 4.2. Differs: binary
        relevance, standardised scores, and only the best candidates take part.
    """
    where, scores, labels = _candidates(scores, labels, where)
    best, index = jax.lax.top_k(jnp.where(where, scores, -jnp.inf), min(pool, len(scores)))
    listed, relevant = where[index], (labels > 0)[index]
    best = jnp.where(listed, best, 0)
    count = jnp.maximum(jnp.sum(listed), 1)
    off = jnp.where(listed, best - jnp.sum(best) / count, 0)
    # A tiny addend keeps the gradient finite where all scores are the same.
    best = best / jnp.sqrt(jnp.sum(jnp.square(off)) / count + 1e-12)
    above = jax.nn.sigmoid((best[None, :] - best[:, None]) / temperature)
    # An item is half above itself: from there to rank 1.
    rank = 0.5 + jnp.sum(jnp.where(listed[None, :], above, 0), axis=1)
    gain = jax.nn.sigmoid(k + 0.5 - rank) / jnp.log2(1 + rank)
    total = jnp.sum(labels > 0)
    place = jnp.arange(min(k, len(scores)))
    ideal = jnp.sum(jnp.where(place < total, 1 / jnp.log2(2.0 + place), 0))
    reached = jnp.sum(jnp.where(relevant & listed, gain, 0))
    return jnp.where(total > 0, 1 - reached / jnp.where(total > 0, ideal, 1), 0)


def _error(scores: jax.Array, labels: jax.Array, where: jax.Array | None) -> jax.Array:
    check_shapes(scores=scores, labels=labels, where=where)
    # Masked before the nonlinearity: a gradient of `where(mask, f(nan), 0)` is still NaN.
    error = scores - labels
    return error if where is None else jnp.where(where, error, 0)


def _candidates(
    scores: jax.Array, labels: jax.Array, where: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the mask of the candidates, and scores and labels with 0 where it hides."""
    check_list(scores=scores, labels=labels, where=where)
    where = jnp.ones(scores.shape, bool) if where is None else where
    return where, jnp.where(where, scores, 0), jnp.where(where, labels, 0)
