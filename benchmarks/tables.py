"""Writes the figures of results/*.json into the tables of benchmarks/README.md.

    python benchmarks/tables.py [--check]

A table stands between `<!-- NAME -->` and `<!-- end -->`. With --check nothing is written and the
exit status is 0 if the page is up to date.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import accuracy_tables
import cold_clicks
import gowalla
import growth_tables
import knowledge_tables
import large_catalogue
import many_items
import negative_power
from records import HERE, markdown, read

from metajax.exploration.first_days import ARMS
from metajax.exploration.worlds import STARTS

PAGE = HERE / "README.md"


def sinusoid() -> str:
    records = [r for r in read("sinusoid") if r["metric"] == "mse"]
    rows = []
    for method in dict.fromkeys(r["method"] for r in records):
        cells = []
        for r in sorted((r for r in records if r["method"] == method), key=lambda r: r["steps"]):
            shown = "diverges"
            if r["mean"] is not None:
                shown = f"{r['mean']:.3g} [{r['low']:.3g}, {r['high']:.3g}]"
            cells.append(shown)
        rows.append([method, *cells])
    rows.append(["the paper", "", "0.67", "0.38", "0.35"])
    return markdown(["", "0 steps", "1 step", "5 steps", "10 steps"], rows)


def reading() -> str:
    rows = [
        [
            r["workload"],
            f"{r['rows']:,}",
            f"{r['median_s']:.2f}",
            f"{r['low_s']:.2f} to {r['high_s']:.2f}",
        ]
        for r in read("reading")
    ]
    return markdown(["workload", "rows", "median, s", "range, s"], rows)


ML_1M = "cold_start_accuracy_ml1m"


def off_policy() -> str:
    """Estimates of whole campaigns, and what the policy earned."""
    rows = []
    for r in read("off_policy"):
        if "position" not in r:
            settings = "".join(f", {n} {r[n]:g}" for n in ("clip", "switch") if n in r)
            of_rewards, off = r["reward_ess"], r.get("relative_error")
            cells = [r["data"].removeprefix("open bandit, "), r["estimator"] + settings]
            cells.append("{value:.4f} [{low:.4f}, {high:.4f}]".format(**r))
            cells += ["" if off is None else f"{off:.1%}", f"{r['ess']:,.0f}", f"{of_rewards:.1f}"]
            rows.append(cells)
    return markdown(["campaign", "estimator", "clicks a view", "off", "ESS", "of clicks"], rows)


def all_but_ten() -> str:
    """Errors of each user, and the last method less the others."""
    found = read("all_but_ten")
    rows = []
    for method in dict.fromkeys(r["method"] for r in found):
        cells = []
        for r in (r for r in found if r["method"] == method):
            cells.append("{mean:.3f} [{low:.3f}, {high:.3f}]".format(**r))
            less = r["last_less"]
            last = method == found[-1]["method"]
            cells.append("" if last else "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**less))
        rows.append([f"`{method}`", *cells])
    last = found[-1]["method"]
    return markdown(["", "MAE", f"`{last}` less it", "RMSE", f"`{last}` less it"], rows)


def first_days(metric: str) -> str:
    """Figures of policies by environment and start, and their differences to the greedy policy."""
    at = {
        (r["data"], r["start"], r["policy"]): r
        for r in read("first_days")
        if r.get("metric") == metric and r["part"] in ("synthetic", "replay")
    }
    known = {(data, start) for data, start, _ in at}
    columns = [(d, s) for d in ("synthetic", "ml-100k", "ml1m") for s in STARTS if (d, s) in known]
    rows = []
    for policy in (name for name in ARMS if any(name == policy for _, _, policy in at)):
        cells = []
        for data, start in columns:
            r = at.get((data, start, policy), {})
            off = ""
            if "difference" in r:
                off = " ({difference:+.2f} [{difference_low:+.2f}, {difference_high:+.2f}])"
            cells.append(("{mean:.2f}" + off).format(**r) if r else "")
        rows.append([f"`{policy}`", *cells])
    return markdown(["", *(f"{data}, {start}" for data, start in columns)], rows)


def settings() -> str:
    """Regret of linear Thompson by its settings, and how far it is below two other policies."""
    rows = []
    for r in (r for r in read("first_days") if r["part"] == "settings"):
        cells = [f"{r['tastes']}", r["policy"], f"{r['mean']:.2f}"]
        rows.append([*cells, *(f"{r[f'below_{n}']:+.0%}" for n in ("greedy", "epsilon_greedy"))])
    return markdown(["tastes x", "policy", "regret", "below greedy", "below epsilon-greedy"], rows)


def refits() -> str:
    """Regret of policies whose model is refitted, how far below others it is, and first success."""
    at = {
        (f"{r['data']}, {r['start']}", r["policy"], r["metric"]): r
        for r in read("first_days")
        if r["part"].endswith("refits") and "metric" in r
    }
    starts = list(dict.fromkeys(start for start, _, _ in at))
    rows = []
    for start in starts:
        of = lambda policy, start=start: at[start, policy, "regret"]["mean"]  # noqa: E731
        for policy in dict.fromkeys(policy for s, policy, _ in at if s == start):
            r = at[start, policy, "regret"]
            off = ""
            if "difference" in r:
                off = " ({difference:+.2f} [{difference_low:+.2f}, {difference_high:+.2f}])"
            cells = [f"{1 - r['mean'] / of(n):+.0%}" for n in ("greedy", "epsilon_greedy")]
            first = f"{at[start, policy, 'first_success']['mean']:.2f}"
            rows.append([start, f"`{policy}`", ("{mean:.2f}" + off).format(**r), *cells, first])
    header = ["start", "policy", "regret", "below greedy", "below epsilon-greedy", "first success"]
    return markdown(header, rows)


def growth(k: int, order: str) -> str:
    """NDCG@10 of cold users by the number of events in the whole system."""
    at = {
        (r["events"], r["method"]): r
        for r in read("first_days")
        if r["part"] == "growth" and (r["k"], r["order"]) == (k, order)
    }
    columns = list(dict.fromkeys(events for events, _ in at))
    rows = []
    for method in dict.fromkeys(method for _, method in at):
        cells = []
        for events in columns:
            r = at.get((events, method))
            off = ""
            if r is not None and r["method"] != r["reference"]:
                off = " ({difference:+.3f} [{difference_low:+.3f}, {difference_high:+.3f}])"
            cells.append("" if r is None else ("{mean:.3f}" + off).format(**r))
        rows.append([method, *cells])
    return markdown(["events", *(f"{events:,}" for events in columns)], rows)


def exploration() -> str:
    """Milliseconds of a list, and how far frequencies are from propensities."""
    rows = []
    for r in read("exploration"):
        times = [
            "{:.3g} [{:.3g}, {:.3g}]".format(
                *(r[f"{part}{end}_ms"] for end in ("", "_low", "_high"))
            )
            for part in ("list", "propensities")
        ]
        rows.append([f"`{r['policy']}`", *times, f"{r['worst_deviation']:.2f}"])
    return markdown(
        ["", "a list, ms", "with propensities, ms", "largest deviation, standard errors"], rows
    )


def serving() -> str:
    """Milliseconds of lists and what a batch yields, by model and size of the catalogue."""
    found = [r for r in read("serving") if "items" in r]
    models = list(dict.fromkeys((r["method"], r["items"]) for r in found))
    at = {(r["method"], r["items"], r["workload"]): r for r in found}
    rows = []
    for workload in dict.fromkeys(r["workload"] for r in found):
        cells = []
        for model in models:
            r = at[*model, workload]
            if "p50_ms" in r:
                cells.append("{p50_ms:.3g}, {p99_ms:.3g} ms".format(**r))
            elif "users_a_second" in r:
                cells.append("{users_a_second:,} users a second".format(**r))
            elif "seconds" in r:
                cells.append("{seconds:.1f} s".format(**r))
            else:
                cells.append("{start_mib:.0f} to {end_mib:.0f} MiB".format(**r))
        rows.append([workload, *cells])
    return markdown(["p50, p99", *(f"`{name}`, {items:,} items" for name, items in models)], rows)


RUNS = [(workload, steps) for workload in ("W1", "W2") for steps in (1, 5)]


def _by_run(file: str, runs: Sequence[tuple[str, int]]) -> str:
    """Methods by workload and steps: milliseconds, and times the plain supervised step."""
    at: dict[str, dict[tuple[str, int], dict[str, Any]]] = {}
    for run in runs:
        for r in read(file.format(*run)):
            name = (
                f"metajax, {r['form']}, {r['adjoint']}" if r["method"] == "metajax" else r["method"]
            )
            if r.get("microbatch") is not None:
                name += f", {r['microbatch']} tasks at once"
            at.setdefault(name, {})[run] = r

    def cell(r: dict[str, Any] | None) -> str:
        if r is None:
            return ""
        return "{median_ms:.3g} [{low_ms:.3g}, {high_ms:.3g}]; {ratio_to_plain:.3g}".format(**r)

    rows = [[f"`{name}`", *(cell(found.get(run)) for run in runs)] for name, found in at.items()]
    return markdown(["", *_named_runs(runs)], rows)


def against_goals() -> str:
    """Ratios of the first row of this package to the others, run by run."""
    rows: dict[str, list[str]] = {}
    for run in RUNS:
        by_method: dict[str, dict[str, Any]] = {}
        for r in read("against_others_{}_{}".format(*run)):
            by_method.setdefault(r["method"], r)
        ours, usual = by_method["metajax"], by_method["usual_jax"]
        peers = [r for name, r in by_method.items() if r["torch_threads"] is not None]
        best = min(peers, key=lambda r: r["median_ms"])
        faster = usual["median_ms"] / ours["median_ms"]
        smaller = usual["temp_bytes"] / ours["temp_bytes"]
        ahead = best["median_ms"] / ours["median_ms"]
        cells = {
            "ratio to the plain supervised step": f"{ours['ratio_to_plain']:.2f}",
            "times faster than the usual JAX form": f"{faster:.1f}",
            "times less temporary memory than it": f"{smaller:.1f}",
            "times faster than the fastest in PyTorch": f"{ahead:.1f} ({best['method']})",
            "seconds of compiling": f"{ours['compile_s']:.1f}",
        }
        for name, value in cells.items():
            rows.setdefault(name, []).append(value)
    return markdown(["", *_named_runs()], [[name, *cells] for name, cells in rows.items()])


def big_logs() -> str:
    """Time and memory of each stage, by rows."""
    rows = [
        [
            *(r["stage"], f"{r['rows']:,}", f"{r['users']:,}", f"{r['items']:,}"),
            *(f"{r['wall_s']:.0f}", f"{r['cpu_s']:.0f}", f"{r['peak_mb'] / 1000:.2f}"),
            f"{r['load']:.0f}",
        ]
        for r in sorted(read("big_logs"), key=lambda r: (r["part"], r["rows"]))
    ]
    headings = ["stage", "rows", "users", "items", "wall, s", "CPU, s", "peak, GB", "load"]
    return markdown(headings, rows)


def support_kind() -> str:
    """Shares of supports told right, and the log loss."""
    found = read("support_kind")
    rows = []
    for method, order in dict.fromkeys((r["method"], r["order"]) for r in found):
        of_row = [r for r in found if (r["method"], r["order"]) == (method, order)]
        cells = [f"{r['right']:.3f}; {r['log_loss']:.3f}" for r in of_row]
        kind = {"random": "any", "time": "the first"}[order]
        rows.append([method, kind, *cells])
    ks = dict.fromkeys(r["k"] for r in found)
    return markdown(["", "supports", *(f"K={k}" for k in ks)], rows)


def where_time_goes() -> str:
    """Milliseconds of a meta-step by kind of operation, and its floors."""
    rows = []
    for run in RUNS:
        _, ours = read("where_time_goes_{}_{}".format(*run))
        names = (
            "median_ms",
            "shared products, ms",
            "products within tasks, ms",
            "the rest, ms",
            "floor_by_arithmetic_ms",
            "floor_by_flops_ms",
            "bytes_ms",
        )
        rows.append([f"{ours[name]:.3g}" for name in names])
    rows = [[name, *row] for name, row in zip(_named_runs(), rows, strict=True)]
    return markdown(
        [
            *("ms", "a step", "shared products", "products within tasks", "the rest"),
            *("floor by arithmetic", "floor by counted FLOPs", "counted bytes"),
        ],
        rows,
    )


def inner_loop_cost() -> str:
    """Ratio to a plain supervised step and temporary memory, by adjoint and form."""
    records = [r for r in read("inner_loop_cost") if r["median_ms"] is not None]
    cells = sorted({(r["width"], r["steps"]) for r in records})
    at = {(r["adjoint"], r["form"], r["width"], r["steps"]): r for r in records}

    def cell(r: dict[str, Any] | None) -> str:
        if r is None:
            return ""
        return f"{r['ratio_to_plain']:.3g}; {r['temp_bytes'] / 1e6:.0f} MB"

    rows = [
        [f"{adjoint}, {form}", *(cell(at.get((adjoint, form, *c))) for c in cells)]
        for adjoint, form in dict.fromkeys((r["adjoint"], r["form"]) for r in records)
    ]
    header = [f"H = {h}, {n} step{'s' if n > 1 else ''}" for h, n in cells]
    return markdown(["", *header], rows)


def inner_loop_forms() -> str:
    """Speed-up of the chosen form over the plain one, by support and steps."""
    records = [r for r in read("inner_loop_forms") if r["form"] == "auto"]
    rows = [(r["width"], r["support"]) for r in records if r["steps"] == 1]
    steps = sorted({r["steps"] for r in records})
    at = {(r["width"], r["support"], r["steps"]): r.get("ratio_to_plain_form") for r in records}

    def cell(ratio: float | None) -> str:
        return "" if ratio is None else f"{1 / ratio:.2g}"

    lines = [[f"H = {h}, {n} rows", *(cell(at[h, n, k]) for k in steps)] for h, n in rows]
    return markdown(["", *(f"{k} step{'s' if k > 1 else ''}" for k in steps)], lines)


def weak_scaling() -> str:
    """Milliseconds, and the ratio to the same work on one device, by devices and processes."""
    rows = [
        [
            f"{r['devices']} in {r['processes']} process{'es' if r['processes'] > 1 else ''}",
            f"{r['tasks']:,}",
            "{median_ms:.3g} [{low_ms:.3g}, {high_ms:.3g}]".format(**r),
            f"{r['ratio_to_same_work']:.2f}",
        ]
        for r in read("weak_scaling")
        if r["devices"] > 1
    ]
    return markdown(["devices", "tasks", "ms", "times the same work on one device"], rows)


def graph_cost() -> str:
    """Milliseconds and temporary memory, by network and operation."""
    records = read("graph_cost")
    at = {(r["network"], r["workload"]): r for r in records}
    columns = list(dict.fromkeys(r["workload"] for r in records))

    def cell(record: dict[str, Any] | None) -> str:
        if record is None:
            return ""
        timed = "{median_ms:.3g} [{low_ms:.3g}, {high_ms:.3g}]".format(**record)
        return f"{timed}; {record['temp_bytes'] / 1e6:.0f} MB"

    rows = [
        [network, *(cell(at.get((network, column))) for column in columns)]
        for network in dict.fromkeys(r["network"] for r in records)
    ]
    return markdown(["ms; temporary memory", *columns], rows)


def table_cost() -> str:
    """Milliseconds and memory of an update, by learner."""
    rows = [
        [
            f"{r['items']:,}",
            r["learner"],
            "{median_ms:.3g} [{low_ms:.3g}, {high_ms:.3g}]".format(**r),
            f"{r['temp_bytes'] / 1e6:,.0f}" if "temp_bytes" in r else "",
        ]
        for name in ("table_cost", "table_cost_100000")
        for r in read(name)
    ]
    return markdown(["items", "update", "ms", "temporary, MB"], rows)


def live_graph() -> str:
    """Microseconds an arrival, and seconds of operations on all of them."""
    rows = []
    for record in read("live_graph"):
        unit, factor = ("µs", 1000) if "arrival" in record["workload"] else ("s", 0.001)
        low, median, high = (factor * record[f"{name}_ms"] for name in ("low", "median", "high"))
        timed = f"{median:.3g} {unit} [{low:.3g}, {high:.3g}]"
        rows.append([record["workload"], timed, f"{factor * record['processor_ms']:.3g} {unit}"])
    return markdown(["", "time", "of the processor"], rows)


def _named_runs(runs: Sequence[tuple[str, int]] = RUNS) -> list[str]:
    return [f"{w}, {n} step{'s' if n > 1 else ''}" for w, n in runs]


def bfloat16_error() -> str:
    """The greatest error over the seeds."""
    records = read("bfloat16_error")
    quantities = ("scores", "change", "loss", "gradient")
    rows = []
    for cell in dict.fromkeys((r["workload"], r["steps"], r["form"]) for r in records):
        chosen = [r for r in records if (r["workload"], r["steps"], r["form"]) == cell]
        worst = [f"{max(r[key] for r in chosen):.2g}" for key in quantities]
        # Without a step nothing has changed.
        worst[quantities.index("change")] *= cell[1] > 0
        rows.append([*map(str, cell), *worst])
    return markdown(["", "steps", "form", *quantities], rows)


TABLES: dict[str, Callable[[], str]] = {
    "rmse": partial(accuracy_tables.by_support, "rmse"),
    "ndcg@10": partial(accuracy_tables.by_support, "ndcg@10"),
    "ndcg@10 natural": partial(accuracy_tables.by_support, "ndcg@10", "P1-natural"),
    "ndcg@10 trained": partial(
        accuracy_tables.by_support, "ndcg@10", results="cold_start_accuracy_trained"
    ),
    "ndcg@10 trained natural": partial(
        accuracy_tables.by_support,
        "ndcg@10",
        "P1-natural",
        results="cold_start_accuracy_trained",
    ),
    "ndcg@10 graph": partial(
        accuracy_tables.by_support, "ndcg@10", results="cold_start_accuracy_graph"
    ),
    "ndcg@10 graph natural": partial(
        accuracy_tables.by_support, "ndcg@10", "P1-natural", results="cold_start_accuracy_graph"
    ),
    "differences": accuracy_tables.differences,
    "hybrid rmse": partial(accuracy_tables.by_support, "rmse", results="hybrid_accuracy"),
    "hybrid ndcg@10": partial(accuracy_tables.by_support, "ndcg@10", results="hybrid_accuracy"),
    "hybrid ndcg@10 natural": partial(
        accuracy_tables.by_support, "ndcg@10", "P1-natural", "hybrid_accuracy"
    ),
    "hybrid differences": partial(accuracy_tables.differences, "hybrid_accuracy"),
    "hybrid by order": partial(accuracy_tables.differences, "hybrid_by_order"),
    "ablations rmse": partial(accuracy_tables.ablations, "rmse"),
    "ablations ndcg@10": partial(accuracy_tables.ablations, "ndcg@10", "P1-natural"),
    "hybrid attentive": partial(accuracy_tables.differences, "hybrid_attentive"),
    "ml-1m rmse": partial(accuracy_tables.by_support, "rmse", results=ML_1M),
    "ml-1m ndcg@10": partial(accuracy_tables.by_support, "ndcg@10", results=ML_1M),
    "ml-1m ndcg@10 natural": partial(accuracy_tables.by_support, "ndcg@10", "P1-natural", ML_1M),
    "ml-1m differences": partial(accuracy_tables.differences, ML_1M),
    "all_but_ten": all_but_ten,
    "off_policy": off_policy,
    "first_days regret": partial(first_days, "regret"),
    "first_days refits": refits,
    "first_days settings": settings,
    "first_days first_success": partial(first_days, "first_success"),
    "growth random": partial(growth, 5, "random"),
    "growth time": partial(growth, 5, "time"),
    "exploration": exploration,
    "serving": serving,
    "warm_cold": accuracy_tables.warm_cold,
    "cross_domain_by_support": accuracy_tables.cross_domain_by_support,
    "cross_domain_by_overlap": accuracy_tables.cross_domain_by_overlap,
    "cross_domain_clicks": accuracy_tables.cross_domain_clicks,
    "cross_domain_best": accuracy_tables.cross_domain_best,
    "cross_domain_warnings": accuracy_tables.cross_domain_warnings,
    "sinusoid": sinusoid,
    "reading": reading,
    "against_others": partial(_by_run, "against_others_{}_{}", RUNS),
    "big_logs": big_logs,
    "tasks_at_once": partial(_by_run, "tasks_at_once_{}_{}", [("W1", 5), ("W2", 1)]),
    "against_goals": against_goals,
    "where_time_goes": where_time_goes,
    "inner_loop_cost": inner_loop_cost,
    "inner_loop_forms": inner_loop_forms,
    "gowalla": lambda: gowalla.table(read("gowalla")),
    "large_catalogue": lambda: large_catalogue.table(read("large_catalogue")),
    "many_items": lambda: many_items.table(read("many_items")),
    "cold_clicks": lambda: cold_clicks.table(read("cold_clicks")),
    "weak_scaling": weak_scaling,
    "bfloat16": bfloat16_error,
    "graph_cost": graph_cost,
    "cold_items": knowledge_tables.cold_items,
    "negative_power": lambda: negative_power.table(read("negative_power")),
    "extraction": knowledge_tables.extraction,
    "extraction_facts": knowledge_tables.extraction_facts,
    "extraction_engine": knowledge_tables.extraction_engine,
    "graph_for_new_users": knowledge_tables.graph_for_new_users,
    "graph_for_ratings": knowledge_tables.graph_for_ratings,
    "knowledge_graph": knowledge_tables.knowledge_graph,
    "knowledge_growth": partial(growth_tables.growth, "umls"),
    "film_growth": partial(growth_tables.growth, "ml-100k"),
    "film_growth_matrix": growth_tables.film_growth_matrix,
    "film_completion": growth_tables.film_completion,
    "film_completion_differences": growth_tables.film_completion_differences,
    "live_graph": live_graph,
    "recovered": accuracy_tables.recovered,
    "relation_clusters": knowledge_tables.relation_clusters,
    "support_kind": support_kind,
    "table_cost": table_cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether it is up to date")
    check = parser.parse_args().check
    page = PAGE.read_text()
    written = page
    for name, table in TABLES.items():
        block = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        written, found = block.subn(lambda m, t=table: f"{m[1]}{t()}\n{m[2]}", written)
        if found != 1:
            sys.exit(f"{PAGE.name} must have one table {name!r}, got {found}.")
    if not check:
        PAGE.write_text(written)
    elif written != page:
        sys.exit(f"{PAGE.name} is not what the results say: run benchmarks/tables.py.")


if __name__ == "__main__":
    main()
