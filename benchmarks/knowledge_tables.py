"""Tables about knowledge graphs, made from the records."""

from records import markdown, read

__all__ = ["knowledge_graph"]


def knowledge_graph() -> str:
    """Accuracy, time and memory of each package in each setting."""
    settings = ("dataset", "setting", "method")
    runs: dict[tuple[str, ...], dict[str, dict[str, float]]] = {}
    for r in read("knowledge_graph"):
        runs.setdefault(tuple(r[name] for name in settings), {})[r["metric"]] = r
    rows = [
        [
            *run,
            "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**found["mrr"]),
            f"{found['hits@10']['mean']:.3f}",
            f"{found['epoch_cpu_ms']['median']:.1f}",
            f"{found['peak_bytes']['mean'] / 1e6:.0f}",
        ]
        for run, found in runs.items()
    ]
    return markdown(
        ["", "false", "", "MRR [lowest, highest]", "hits@10", "CPU ms an epoch", "peak, MB"], rows
    )
