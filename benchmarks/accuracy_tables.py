"""Tables of cold-start accuracy: in one domain, and across two domains."""

from collections.abc import Callable
from functools import partial
from typing import Any

from records import markdown, read

from metajax.evaluation.metrics import badness, named, title_of
from metajax.evaluation.records import Record, from_json, select

__all__ = [
    "ablations",
    "by_support",
    "cross_domain_best",
    "cross_domain_by_overlap",
    "cross_domain_by_support",
    "cross_domain_clicks",
    "cross_domain_warnings",
    "differences",
    "recovered",
    "warm_cold",
]

PAIRS = ("A", "B", "C")
READINGS = {"P1": "", "P1-natural": ", natural"}


ONE_MODEL = ", one model"


def by_support(metric: str, protocol: str = "P1", results: str = "cold_start_accuracy") -> str:
    """Methods by support size, both orders side by side; the best of a column is bold.

    Of methods whose errors of ratings are among the results, rows of one model are left out.
    """
    everything = from_json(read(results))
    rated = {r.method for r in everything if r.metric == "rmse"}
    records = [
        r
        for r in select(everything, protocol=protocol, metric=metric)
        if r.method.removesuffix(ONE_MODEL) not in rated or not r.method.endswith(ONE_MODEL)
    ]
    ks = sorted({r.k for r in records})
    columns = [(order, k) for order in ("random", "time") for k in ks]
    at = {(r.method, r.order, r.k): r.mean for r in records}
    methods = list(dict.fromkeys(r.method for r in records))
    best = {
        c: min((at[m, *c] for m in methods), key=partial(badness, named(metric))) for c in columns
    }

    def cell(method: str, column: tuple[str, int]) -> str:
        value = at[method, *column]
        return f"**{value:.3f}**" if value == best[column] else f"{value:.3f}"

    rows = [[_code(m), *(cell(m, column) for column in columns)] for m in methods]
    header = ["", *(f"{'random' if order == 'random' else 'time'} {k}" for order, k in columns)]
    return markdown(header, rows)


def _code(method: str) -> str:
    name = method.removesuffix(ONE_MODEL)
    return f"`{name}`{method.removeprefix(name)}"


def differences(results: str = "cold_start_accuracy") -> str:
    """Paired differences of the learned method with the best mean, by metric and order.

    Chosen for each order and, where the orders chose differently, as one model for both.
    """
    everything = from_json(read(results))
    rows = []
    for metric, protocol in (
        ("rmse", "P1"),
        *((metric, reading) for metric in ("ndcg@10", "hr@1") for reading in READINGS),
    ):
        found = select(everything, protocol=protocol, metric=metric)
        learned = dict.fromkeys(r.method for r in found if r.difference is not None)
        if not learned:  # The others rank alone.
            continue
        best = min(
            (method for method in learned if not method.endswith(ONE_MODEL)),
            key=lambda m: badness(named(metric), sum(r.mean for r in found if r.method == m)),
        )
        for method in (best, best + ONE_MODEL):
            for order in ("random", "time"):
                chosen = select(found, method=method, order=order)
                cells = [_difference(r) for r in sorted(chosen, key=lambda r: r.k)]
                title = title_of(named(metric)) + READINGS[protocol]
                if cells:
                    rows.append([title, _code(method), order, *cells])
    return markdown(["", "method", "order", *(f"K={k}" for k in (0, 1, 3, 5, 10))], rows)


def _difference(r: Record, name: str = "difference") -> str:
    ends = (getattr(r, name + end) for end in ("", "_low", "_high"))
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*ends)


def ablations(metric: str, protocol: str = "P1") -> str:
    """Variants of the engine by support size: differences, with a star where they are sure."""
    content: Any = read("hybrid_ablations")
    records = select(from_json(content["records"]), protocol=protocol, metric=metric)
    columns = list(dict.fromkeys((r.order, r.k) for r in records))
    at = {(r.method, r.order, r.k): r for r in records}

    def cell(r: Record) -> str:
        if r.difference is None or r.difference_low is None or r.difference_high is None:
            return f"{r.mean:.3f}"
        surely = r.difference_low > 0 or r.difference_high < 0
        return f"{r.difference:+.4f}{' *' if surely else ''}"

    rows = [
        [variant, *(cell(at[variant, *column]) for column in columns)]
        for variant in dict.fromkeys(r.method for r in records)
    ]
    return markdown(["", *(f"{order} {k}" for order, k in columns)], rows)


def warm_cold() -> str:
    """RMSE by cold users and items, at the largest support; the best of a column is bold."""
    records = [
        r
        for r in from_json(read("cold_start_accuracy"))
        if r.metric == "rmse" and r.protocol in ("P2", "P2-newest") and r.k in (5, 1000)
    ]
    columns = list(dict.fromkeys((r.protocol, r.order) for r in records))
    at = {(r.method, r.protocol, r.order): r.mean for r in records}
    methods = list(dict.fromkeys(r.method for r in records))
    best = {c: min(at[m, *c] for m in methods) for c in columns}

    def cell(method: str, column: tuple[str, str]) -> str:
        value = at[method, *column]
        return f"**{value:.3f}**" if value == best[column] else f"{value:.3f}"

    rows = [[f"`{m}`", *(cell(m, column) for column in columns)] for m in methods]
    suffix = {"P2": "", "P2-newest": ", newest films"}
    header = ["", *(panel.replace("_", " ") + suffix[protocol] for protocol, panel in columns)]
    return markdown(header, rows)


def _across(k: int | None = None, **facts: Any) -> list[Record]:
    """RMSE across domains."""
    return [
        r
        for r in select(from_json(read("cross_domain_accuracy")), metric="rmse")
        if k in (None, r.k) and all(r.facts[key] == value for key, value in facts.items())
    ]


def _of_pairs(records: list[Record], method: str, best: dict[str, float]) -> str:
    """One figure a pair of domains, the best of all methods bold."""
    at = {r.facts["pair"]: r.mean for r in records if r.method == method}
    shown = [f"**{at[p]:.3f}**" if at[p] == best[p] else f"{at[p]:.3f}" for p in best if p in at]
    return " / ".join(shown)


def _columns(columns: dict[str, list[Record]], best_of: Callable[..., float] = min) -> str:
    methods = list(dict.fromkeys(r.method for found in columns.values() for r in found))
    best = {
        name: {
            pair: best_of(r.mean for r in found if r.facts["pair"] == pair)
            for pair in dict.fromkeys(r.facts["pair"] for r in found)
        }
        for name, found in columns.items()
    }
    rows = [
        [f"`{m}`", *(_of_pairs(found, m, best[name]) for name, found in columns.items())]
        for m in methods
    ]
    return markdown(["A / B / C", *columns], rows)


def cross_domain_by_support() -> str:
    """Methods by target support size, at full overlap."""
    full = [r for r in _across(overlap=1.0, shuffled_source=False) if r.facts["pair"] in PAIRS]
    return _columns({f"K={k}": [r for r in full if r.k == k] for k in (0, 1, 3, 5)})


def cross_domain_by_overlap() -> str:
    """Methods by overlap and in the controls, without target ratings."""
    return _columns(_by_overlap(_across(k=0)))


def cross_domain_clicks() -> str:
    """NDCG@10 without ratings by overlap and in the controls, and at five of the target."""
    everything = select(from_json(read("cross_domain_clicks")), metric="ndcg@10")
    natural = [r for r in everything if r.protocol.endswith("-natural")]
    columns = _by_overlap([r for r in natural if r.k == 0])
    full = _by_overlap([r for r in natural if r.k == 5])["100%"]
    return _columns(columns | {"100%, K=5": full}, max)


def _by_overlap(records: list[Record]) -> dict[str, list[Record]]:
    of_pairs = [r for r in records if r.facts["pair"] in PAIRS]
    plain = [r for r in of_pairs if not r.facts["shuffled_source"]]
    columns = {
        f"{overlap:.0%}": [r for r in plain if r.facts["overlap"] == overlap]
        for overlap in (1.0, 0.5, 0.2, 0.05, 0.0)
    }
    columns["source shuffled"] = [r for r in of_pairs if r.facts["shuffled_source"]]
    columns["items by a coin"] = [r for r in records if r.facts["pair"] == "random"]
    return columns


def cross_domain_best() -> str:
    """Paired differences of the best method of each pair."""
    rows = []
    for overlap in (1.0, 0.0):
        for pair in PAIRS:
            for k in (0, 5):
                found = _across(overlap=overlap, shuffled_source=False, pair=pair, k=k)
                r = min((r for r in found if r.kind == "learned"), key=lambda record: record.mean)
                against = f"{_difference(r)} (`{r.best_baseline}`)"
                without = f"{_difference(r, 'no_transfer_difference')} (`{r.no_transfer}`)"
                cells = [pair, f"{overlap:.0%}", str(k), f"`{r.method}`", f"{r.mean:.3f}"]
                rows.append([*cells, against, without])
    header = ["", "overlap", "K", "method", "RMSE", "to the best simple baseline"]
    return markdown([*header, "to no transfer"], rows)


def cross_domain_warnings() -> str:
    """Where a method is worse than no transfer by more than its interval."""
    rows: dict[tuple[str, str], list[str]] = {}
    for r in _across(shuffled_source=False):
        if r.facts["pair"] in PAIRS and (r.no_transfer_difference_low or 0) > 0:
            where = f"{r.facts['pair']}, K={r.k} ({r.no_transfer_difference:+.3f})"
            rows.setdefault((r.method, f"{r.facts['overlap']:.0%}"), []).append(where)
    return markdown(
        ["method", "overlap", "worse than no transfer"],
        [[f"`{m}`", overlap, "; ".join(where)] for (m, overlap), where in rows.items()],
    )


def recovered() -> str:
    """RMSE and the share of the possible gain, by method and support size."""
    records = select(from_json(read("cross_domain_synthetic")), metric="rmse")
    ks = sorted({r.k for r in records})
    of_method: dict[str, dict[int, str]] = {r.method: {} for r in records}
    for r in records:
        of_method[r.method][r.k] = f"{r.mean:.3f} ({round(100 * r.facts['recovered'])} %)"
    best = {r.k: f"{r.facts['best_possible']:.3f}" for r in records}
    rows = [[f"`{name}`", *(cells[k] for k in ks)] for name, cells in of_method.items()]
    rows.append(["best possible", *(best[k] for k in ks)])
    return markdown(["RMSE (share)", *(f"K = {k}" for k in ks)], rows)
