"""Meta-SGD: a learned rate for every weight."""

from typing import Unpack

from metajax.adaptation import initial_rates, learned_rates, partition, within
from metajax.learners.maml import Options, maml
from metajax.networks import with_meta_params
from metajax.types import Choice, Loss, MetaLearner, Model

__all__ = ["meta_sgd"]


def meta_sgd(
    model: Model,
    loss: Loss,
    *,
    rate: float,
    adapts: Choice = "*",
    **options: Unpack[Options],
) -> MetaLearner:
    """Meta-SGD: MAML with one learned inner rate for each weight.

    A rate may become negative. A user's weights are kept in full: a step whose rates differ
    within a weight is no low-rank change.

    Args:
        model: The network.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        rate: Initial value of every rate.
        adapts: The parameters of the network that adapt: patterns of paths or a predicate.
        **options: As in `maml`.

    Returns:
        A meta-learner with the parameters `{"network": ..., "rates": ...}`.

    Raises:
        ValueError: If `rate` is not finite.

    References:
        Li, Zhou, Chen and Li, Meta-SGD: Learning to Learn Quickly for Few-Shot Learning, arXiv
        1707.09835, algorithm 1. Differs: all rates start alike, not at random; several steps
        share them.
    """
    extended = with_meta_params(
        model,
        rates=lambda key, network, inputs: initial_rates(
            partition(network, adapts)[0], rate, per="element"
        ),
    )
    return maml(
        extended,
        loss,
        inner=lambda params: learned_rates(params["rates"]),
        adapts=within("network", adapts),
        **options,
    )
