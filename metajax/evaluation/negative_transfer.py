"""Where another domain has misled a method: said in so many words, wherever figures are shown."""

from collections.abc import Iterable

from metajax.evaluation.comparisons import Record, distinct, lower_is_better, metric_name, select

__all__ = ["negative_transfer"]


def negative_transfer(records: Iterable[Record], *, metric: str = "rmse") -> list[str]:
    """Warns of methods that are worse than those that do not look at the other domain.

    Args:
        records: As in `evaluation.comparisons`; what counts is their `no_transfer_difference`.
        metric: Which figures to look at.

    Returns:
        A sentence for each method and protocol with a support size at which the whole 95 %
        interval of the paired difference is on the wrong side of 0.

    Example:
        >>> record = {
        ...     "method": "pooled", "protocol": "shuffled", "metric": "rmse", "k": 0,
        ...     "no_transfer": "item_mean", "no_transfer_difference": 0.02,
        ...     "no_transfer_difference_low": 0.01, "no_transfer_difference_high": 0.03,
        ... }
        >>> negative_transfer([record])  # doctest: +NORMALIZE_WHITESPACE
        ['Negative transfer: pooled is worse than no transfer under shuffled, in RMSE by 0.0200
          [0.0100, 0.0300] at K = 0 (item_mean).']
    """
    bad = "low" if lower_is_better(metric) else "high"
    sign = 1 if lower_is_better(metric) else -1
    found = [
        record
        for record in select(records, metric=metric)
        if sign * record.get(f"no_transfer_difference_{bad}", 0.0) > 0
    ]
    sentences = []
    for protocol in distinct(found, "protocol"):
        under = select(found, protocol=protocol)
        for method in distinct(under, "method"):
            at = ", ".join(_said(record, sign) for record in select(under, method=method))
            sentences.append(
                f"Negative transfer: {method} is worse than no transfer under {protocol}, in "
                f"{metric_name(metric)} by {at}."
            )
    return sentences


def _said(record: Record, sign: int) -> str:
    """Writes by how much a method is worse, at one support size."""
    difference = "no_transfer_difference"
    low, high = sorted(sign * record[f"{difference}_{end}"] for end in ("low", "high"))
    return (
        f"{sign * record[difference]:.4f} [{low:.4f}, {high:.4f}] at K = {record['k']} "
        f"({record['no_transfer']})"
    )
