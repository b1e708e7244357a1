import io
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from rich.console import Console

from metajax import report
from metajax.evaluation.records import (
    Record,
    compare_all,
    from_json,
    headline,
    select,
    to_json,
)
from metajax.report import plots

MINUS = "\u2212"
UNCLEAR = "shows no clear difference from bias"


def record(method: str, mean: float, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "method": method,
        "kind": "baseline",
        "protocol": "P1",
        "order": "random",
        "k": 5,
        "metric": "rmse",
        "mean": mean,
        "low": mean - 0.0111,
        "high": mean + 0.0112,
        "seeds": (0, 1, 2),
    }
    return Record(**{**values, **changes})


def learned(mean: float, low: float, high: float, **changes: Any) -> Record:
    """A learned method whose paired difference to a bias baseline of .978 is in [low, high]."""
    paired = {
        "difference": mean - 0.978,
        "difference_low": low,
        "difference_high": high,
        "best_baseline": "bias",
    }
    return record("ridge head", mean, kind="learned", **{**paired, **changes})


def run() -> list[Record]:
    """Two baselines and a learned method, two metrics, two orders, three sizes."""
    records = []
    for o, order in enumerate(("random", "time")):
        for k in (0, 1, 5):
            for metric, sign, start in (("rmse", -1, 1.02), ("ndcg@10", 1, 0.36)):
                setting = {"k": k, "order": order, "metric": metric}
                at = [start + sign * (0.008 * k * slope + 0.002 * o) for slope in (0.5, 1, 1.4)]
                change = {
                    "difference": at[2] - at[1],
                    "difference_low": at[2] - at[1] - 0.0013,
                    "difference_high": at[2] - at[1] + 0.0017,
                    "best_baseline": "fold-in",
                }
                records += [
                    record("bias", at[0], **setting),
                    record("fold-in", at[1], **setting),
                    record("ridge head", at[2], kind="learned", **setting, **change),
                ]
    return records


def printed(records: list[Record]) -> str:
    text = io.StringIO()
    Console(file=text, width=80).print(report.terminal_table(records))
    return text.getvalue()


class Page(HTMLParser):
    """Collects tags with their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page() -> str:
    return report.html(run(), title="A run", run_facts={"commit": "abc"}, notes=["Tuned."])


def test_the_page_has_no_external_resources_and_is_small(page):
    assert "http://" not in page
    assert "https://" not in page
    assert len(page.encode()) < 300_000
    parsed = Page(page)
    assert not {tag for tag, _ in parsed.tags} & {"script", "link", "img", "iframe", "object"}
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_the_same_records_give_the_same_bytes(page, tmp_path):
    assert page == report.html(run(), title="A run", run_facts={"commit": "abc"}, notes=["Tuned."])
    for name in ("a.svg", "b.svg"):
        report.support_size_curve(run(), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_every_number_of_every_record_stands_in_the_tables(page):
    tables = page[page.index("All figures") :]
    for r in run():
        assert f">{r.mean:.3f}" in tables
        assert f"[{r.low:.3f}, {r.high:.3f}]" in tables
        if r.difference is not None:
            d, low, high = (
                getattr(r, key) for key in ("difference", "difference_low", "difference_high")
            )
            for text in (f"({d:+.4f})", f"[{low:+.4f}, {high:+.4f}]"):
                assert f">{text.replace('-', MINUS)}<" in tables
    assert "abc" in page
    assert "Tuned." in page
    assert "Seeds: 0, 1, 2." in page


def test_figures_have_a_title_and_a_description_and_headers_a_scope(page):
    parsed = Page(page)
    images = [attrs for tag, attrs in parsed.tags if tag == "svg"]
    assert len(images) == 4  # curves of differences, two metrics, two orders
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for image in images:
        assert image["role"] == "img"
        assert set((image["aria-labelledby"] or "").split()) <= set(ids)
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in parsed.tags if tag == "th")
    assert ("html", {"lang": "en"}) in parsed.tags


def test_names_are_escaped_everywhere(tmp_path):
    name = '<b>A & "B"</b> $x$'
    records = [replace(r, method=name) if r.kind == "learned" else r for r in run()]
    page = report.html(records, title="<i>", run_facts={"<u>": "<s>"}, notes=["<em>"])
    assert not {tag for tag, _ in Page(page).tags} & {"b", "u", "s", "em"}
    # Markup of the page itself comes from the key of a panel without a curve.
    keyed = report.html(
        [replace(r, order="cold_user_warm_item") for r in records if r.order == "time"]
    )
    assert '<i style="background' in keyed
    assert "<i></" not in page
    assert name in Page(page).text
    report.support_size_curve(records, tmp_path / "curve.svg")
    assert "&lt;b&gt;A &amp; " in (tmp_path / "curve.svg").read_text()


@pytest.mark.parametrize(
    ("mean", "low", "high", "metric", "words"),
    [
        (0.970, -0.012, -0.004, "rmse", "beats bias on RMSE"),
        (0.977, -0.003, 0.001, "rmse", f"{UNCLEAR} on RMSE"),
        (0.778, -0.500, 0.100, "ndcg@10", f"{UNCLEAR} on NDCG@10"),
        (0.970, -0.012, -0.004, "mse", "beats bias on MSE"),
        (0.985, 0.004, 0.010, "rmse", "loses to bias on RMSE"),
        (0.985, 0.004, 0.010, "ndcg@10", "beats bias on NDCG@10"),
        (0.970, -0.012, -0.004, "ndcg@10", "loses to bias on NDCG@10"),
    ],
)
def test_the_headline_lists_better_tied_and_worse_metrics(mean, low, high, metric, words):
    records = [record("bias", 0.978, metric=metric), learned(mean, low, high, metric=metric)]
    sentence = f"With 5 interactions seen, ridge head {words} (random order)."
    assert headline(compare_all(records, [metric])) == sentence
    assert sentence in report.html(records, title="")


def test_the_headline_separates_better_from_worse_metrics():
    records = [
        record("bias", 0.978),
        learned(0.970, -0.012, -0.004),
        record("bias", 0.978, order="time"),
        learned(0.990, 0.01, 0.02, order="time"),
        record("bias", 0.4, metric="hr@1"),
        record("ridge head", 0.5, kind="learned", metric="hr@1"),
    ]
    assert headline(compare_all(records, ["rmse", "hr@1"])) == (
        "With 5 interactions seen, ridge head beats bias on RMSE (random "
        "order), loses to bias on RMSE (first in time) and was not compared "
        "user by user with bias on HR@1 (random order)."
    )


def test_the_best_learned_method_is_compared_and_its_selection_reported():
    records = [
        record("bias", 0.978),
        learned(0.990, 0.01, 0.02),
        replace(learned(0.970, -0.012, -0.004), method="prototypes"),
    ]
    page = Page(report.html(records, title="")).text
    assert "With 5 interactions seen, prototypes beats" in page
    assert "The best of 2 learned methods was chosen on these same figures" in page


def test_the_nearest_size_stands_in_where_five_was_not_measured():
    records = [record("bias", 0.978, k=1), learned(0.970, -0.012, -0.004, k=1)]
    sentence = headline(compare_all(records, ["rmse"]))
    assert sentence.startswith("With 1 interaction seen, ")


@pytest.mark.parametrize("alone", [record("bias", 0.978), learned(0.970, -0.012, -0.004)])
def test_one_kind_alone_is_shown_and_makes_no_claim(alone, tmp_path):
    page = report.html([alone], title="")
    assert "No learned method was compared with a baseline." in page
    assert f">{alone.mean:.3f}" in page
    assert f"{alone.mean:.3f}" in printed([alone])
    report.support_size_curve([alone], tmp_path / "curve.svg", metrics=["rmse"])


@pytest.mark.parametrize("alone", [record("bias", 0.3), learned(0.3, -0.1, 0.1)])
def test_a_metric_of_one_kind_leaves_the_others_compared(alone):
    records = [
        record("bias", 0.978),
        learned(0.970, -0.012, -0.004),
        replace(alone, metric="ndcg@10"),
    ]
    sentence = "ridge head beats bias on RMSE (random order)."
    assert sentence in report.html(records, title="")
    assert "0.300" in printed(records)


def test_a_size_that_both_kinds_have_is_compared():
    records = [
        record("bias", 0.978, k=1),
        learned(0.970, -0.012, -0.004, k=1),
        learned(0.960, -0.012, -0.004, k=5),
        record("bias", 0.978, k=10),
    ]
    (comparison,) = compare_all(records, ["rmse"])
    assert comparison.learned.k == comparison.baseline.k == 1


def test_a_difference_from_a_baseline_without_a_record_has_no_verdict():
    records = [record("fold-in", 0.975), learned(0.970, -0.012, -0.004)]
    (comparison,) = compare_all(records, ["rmse"])
    assert comparison.verdict == "untested"
    assert comparison.difference == pytest.approx(0.970 - 0.975)


def test_a_method_off_the_scale_is_named_below_the_curve():
    steps = [record(f"b{n}", 0.97 + 0.001 * n) for n in range(5)]
    page = report.html([*steps, record("global mean", 1.125)], title="")
    assert "Off the scale: global mean (1.125 at K = 5)." in page


def test_a_figure_without_an_interval_has_none():
    rows = [record(name, 0.123, metric="coverage@10", low=None, high=None) for name in "ab"]
    page = report.html(rows, title="", metrics=["coverage@10"])
    assert "0.123" in page
    assert "None" not in page
    assert "0.123" in printed(rows)
    mixed = [record("a", 0.5, k=1), record("a", 0.5, k=5, low=None, high=None)]
    assert "None" not in report.html(mixed, title="")


def test_invalid_records_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^records must hold at least one figure, got none\.$"):
        report.html([], title="")
    rows = to_json([record("bias", 1.0)] * 2)
    del rows[1]["low"]
    with pytest.raises(ValueError, match=r"^records\[1\] must have the key 'low'"):
        from_json(rows)
    rows[1] |= {"low": 0.9, "mean": None}
    with pytest.raises(ValueError, match=r"^records\[1\] mean must be finite, got None"):
        from_json(rows)
    with pytest.raises(ValueError, match="mean must be finite, got nan"):
        record("bias", float("nan"))
    with pytest.raises(ValueError, match="difference_low must be finite, got None"):
        learned(0.970, 0, 0, difference_low=None)
    with pytest.raises(ValueError, match="got 'simple'"):
        record("bias", 1.0, kind="simple")
    with pytest.raises(ValueError, match="must be unique"):
        report.html([record("bias", 1.0)] * 2, title="")
    with pytest.raises(ValueError, match=r"among the records' \['rmse'\], got 'mae'"):
        report.support_size_curve([record("bias", 1.0)], "never", metrics=["mae"])
    with pytest.raises(ValueError, match=r"among the records' \['rmse'\], got \['mae'\]"):
        report.terminal_table([record("bias", 1.0)], metrics=["mae"])


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_names_the_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package}: pip install 'metajax\[cli\]'"):
        report.html(run(), title="")


def test_five_sizes_with_their_intervals_fit_in_a_terminal():
    name, ks = "n" * 20, (0, 1, 3, 5, 10)
    records = [record("bias", 0.978, k=k) for k in ks]
    records += [replace(learned(0.9656, -0.0204, -0.0044, k=k), method=name) for k in ks]
    lines = printed(records).splitlines()
    assert max(len(line) for line in lines) <= 80
    row = next(n for n, line in enumerate(lines) if name in line)
    assert [line.split() for line in lines[row : row + 4]] == [
        [name, *["0.966"] * 5],
        ["vs", "best", "baseline", *[f"{MINUS}0.0124"] * 5],
        ["95", "%", "from", *[f"{MINUS}0.0204"] * 5],
        ["to", *[f"{MINUS}0.0044"] * 5],
    ]


def test_the_terminal_table_fits_a_plain_log_and_marks_the_best():
    text = printed([r for r in run() if r.metric == "rmse"])
    assert "\x1b" not in text
    assert "RMSE, random order, protocol P1 (lower is better)" in text
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= 80
    row = next(n for n, line in enumerate(lines) if "ridge head" in line)
    # 1.02 - 1.4 * .008 * 5 = .964, and .4 * .008 * 5 = .016 below the fold-in.
    assert "0.964" in lines[row]
    assert f"{MINUS}0.0160" in lines[row + 1]
    coloured = io.StringIO()
    Console(file=coloured, width=80, force_terminal=True).print(
        report.terminal_table(run(), metrics=["rmse"])
    )
    assert re.search(r"\x1b\[1m *0\.964", coloured.getvalue())
    assert "0.980" in coloured.getvalue()
    assert not re.search(r"\x1b\[1m *0\.980", coloured.getvalue())


def test_the_curve_in_a_file_is_light_and_stands_alone(tmp_path):
    report.support_size_curve(run(), tmp_path / "curve.svg")
    text = (tmp_path / "curve.svg").read_text()
    assert text.startswith("<svg ")
    assert '<rect width="100%" height="100%" rx="8" fill="#fdfdfb"/>' in text
    assert "var(" not in text
    assert set(re.findall(r"https?://[^\"]*", text)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def many(learners=6) -> list[Record]:
    """A baseline and learners, the later the better, at two sizes under both protocols."""
    records = []
    for protocol, orders in (("P1", ["random"]), ("P2", ["warm_user_cold_item"])):
        for order in orders:
            for metric, start, sign in (("rmse", 1.0, -1), ("hr@1", 0.3, 1)):
                for k in (0, 5):
                    setting = {"protocol": protocol, "order": order, "metric": metric, "k": k}
                    records.append(record("bias", start, **setting))
                    for n in range(learners):
                        mean = start + sign * 0.01 * (n - 2)
                        paired = {
                            "difference": mean - start,
                            "difference_low": mean - start - 0.005,
                            "difference_high": mean - start + 0.005,
                            "best_baseline": "bias",
                        }
                        records.append(
                            record(f"learner{n}", mean, kind="learned", **setting, **paired)
                        )
    for method, cost in (("bias", 0.25), ("learner0", 31.4), ("learner1", 2.0)):
        kind = "baseline" if method == "bias" else "learned"
        for metric, value in (("adapt_us", cost), ("state_bytes", 4000 * cost)):
            figure = record(method, value, kind=kind, metric=metric, low=None, high=None)
            records.append(figure)
    records.append(record("learner1", 0.47, kind="learned", metric="within@50"))
    return records


def test_of_many_learners_the_four_that_rank_best_have_colours():
    colours = plots.method_colours(many())
    assert set(colours) == {f"learner{n}" for n in (2, 3, 4, 5)}
    assert set(colours.values()) == {f"learned-{n}" for n in range(4)}
    page = Page(report.html(many(), title="")).text
    assert "(the 4 of 6 that rank best)" in page
    # All of them are in the tables.
    assert all(f"learner{n}" in page[page.index("All figures") :] for n in range(6))


def test_quadrants_and_first_recommendations_are_drawn_method_by_method():
    page = report.html(many(), title="")
    text = Page(page).text
    place = text.index("Warm and cold users, warm and cold items")
    first = text.index("First recommendation to a new user")
    assert "RMSE, warm users, cold items, protocol P2, K\u00a0=\u00a05" in text[place:first]
    assert "HR@1, random order, protocol P1, K\u00a0=\u00a00" in text[first:]
    # What is read aloud: the best on top.
    words = "learner5: 0.970, 0.959 to 0.981. learner4: 0.980, 0.969 to 0.991."
    assert words in page
    for n in range(6):
        assert f"learner{n}: " in page[page.index(words) :]
    # A quadrant is no curve.
    assert "warm users, cold items (lower is better) against interactions seen" not in page


def test_calibration_and_cost_have_a_table_of_their_own():
    text = " ".join(re.sub("<[^>]*>", " ", report.html(many(), title="")).split())
    table = text[text.index("Calibration and cost") : text.index("All figures")]
    assert "random order, protocol P1, K = 5." in table
    assert "adaptation, \u00b5s a user lower is better state, bytes a user" in table
    assert "within@50 0.5 is right" in table
    # The cheapest first; a dash where nothing was predicted.
    assert "bias 0.25 1,000 \u2013 learner1 2 8,000 0.470 learner0 31.4 125,600 \u2013" in table
    assert "adaptation" not in text[text.index("All figures") :]


def test_the_tables_may_be_of_some_metrics_alone():
    text = Page(report.html(many(), title="", tables=["hr@1"])).text
    tables = text[text.index("All figures") :]
    assert "HR@1, random order" in tables
    assert "RMSE, random order" not in tables


def test_a_brief_table_has_a_line_a_method_and_marks_clear_differences():
    text = io.StringIO()
    Console(file=text, width=80).print(report.terminal_table(many(), ["rmse"], brief=True))
    lines = [line.split() for line in text.getvalue().splitlines()]
    assert ["learner5", "0.970+", "0.970+"] in lines
    assert ["learner2", "1.000", "1.000"] in lines
    assert ["learner0", "1.020-", "1.020-"] in lines
    assert "+ better, - worse than bias (95 % interval)" in text.getvalue()


def test_the_headline_is_about_the_first_protocol():
    sentence = headline(compare_all(many(), ["rmse"]))
    expected = "learner5 beats bias on RMSE (random order)."
    assert sentence == f"With 5 interactions seen, {expected}"


def test_the_legend_lists_methods_from_top_to_bottom_as_the_curves_end(tmp_path):
    ends = {"low": 0.95, "top": 0.99, "middle": 0.97}
    records = [record(name, mean, k=k) for name, mean in ends.items() for k in (0, 5)]
    report.support_size_curve(records, tmp_path / "curve.svg", metrics=["rmse"])
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "curve.svg").read_text())
    assert [text for text in texts if text in ends] == ["top", "middle", "low"]


def test_names_that_hold_anything_reach_no_element_and_no_terminal(tmp_path):
    names = ['"><script>', "a b", "a-b", "\x1b[2J\0", "\u202ex"]
    records = [
        replace(one, metric=name, better="lower")
        for name in names
        for one in (record("bias", 1.0), learned(0.97, -0.01, -0.006))
    ]
    page = report.html(records, title="\ud800\x07", metrics=names)
    assert "<script" not in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800]", page)
    assert r"\x1b[2J\x00" in page
    assert r"<title>\ud800\x07</title>" in page
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(set(ids)) == len(ids) > len(names)
    assert all(re.fullmatch(r"[\w.-]+", one) for one in ids)
    report.support_size_curve(records, tmp_path / "curve.svg", names)
    assert "\x1b" not in (tmp_path / "curve.svg").read_text()
    assert "\x1b" not in printed(records)


def test_curves_of_paired_methods_are_differences_to_the_best_baseline_of_each_size():
    records = select(run(), metric="rmse", order="random")
    lower = plots._differences(records)
    at = {(r.method, r.k): (r.mean, r.low, r.high) for r in lower}
    for k in (0, 1, 5):
        best = min(r.mean for r in records if r.k == k and r.kind == "baseline")
        (ridge,) = select(records, k=k, method="ridge head")
        assert at["ridge head", k] == (
            ridge.difference,
            ridge.difference_low,
            ridge.difference_high,
        )
        (bias,) = select(records, k=k, method="bias")
        assert at["bias", k] == (bias.mean - best, None, None)
    colours = plots.method_colours(records)
    drawn, _ = plots.curve_panel(records, "x", colours)
    assert "differences to the best baseline" in drawn
    alone, _ = plots.curve_panel(select(records, kind="baseline"), "x", colours)
    assert "differences" not in alone


def test_the_page_has_advice_a_learning_curve_and_examples():
    example = {"shown": ["A <b>: 5"], "recommended": [("B", True), ("C", False)], "liked": []}
    page = report.html(
        run(),
        title="",
        about={"bias": "A mean & more.", "other": "Not in the table."},
        advice=["A new user: take <i>."],
        learning=("RMSE", [(50, 1.25), (100, 1.125), (150, 1.5)]),
        examples=[{"user": "7", **example}],
    )
    text = " ".join(Page(page).text.split())
    assert "Which method when" in text
    assert "A new user: take <i>." in text
    assert "Lowest, 1.1250, at update 100; 1.5000 at the last." in text
    assert "User 7 Shown A <b>: 5 Recommended B ✓ C Liked later, besides nothing else" in text
    assert "biasA mean & more." in text
    assert "Not in the table" not in text
    plain = report.html(run(), title="")
    for heading in ("Which method when", "Validation loss", "Examples", "The methods"):
        assert heading not in plain


def test_weights_of_experts_have_a_table_and_a_short_form():
    weights = {
        "any": {
            "a <b>": {0: 0.1, 10: -0.604},
            "reach": {0: 0.9, 10: 0.1},
            "knn": {0: 0.0, 10: 0.3},
        },
        "first": {"reach": {0: 1.0, 10: 1.0}},
    }
    page = report.html(run(), title="", weights=weights)
    text = " ".join(Page(page).text.split())
    assert "as a share of such changes of all experts" in text
    row = "reach90 %10 % a <b>10 %\u221260 % knn0 %30 %"
    assert f"any of a user's interactions ExpertK = 0K = 10 {row}" in text
    assert "a user's first interactions ExpertK = 0K = 10 reach100 %100 %" in text
    assert "Which experts" not in report.html(run(), title="")
    _, *lines = report.weight_lines(weights, most=2)
    assert [line.split(maxsplit=1) for line in lines if "K=" in line] == [
        ["K=0", "reach 90 %, a <b> 10 %"],
        ["K=10", "a <b> \u221260 %, knn 30 %"],
        ["K=0", "reach 100 %"],
        ["K=10", "reach 100 %"],
    ]
    assert report.weight_lines(weights)[2].endswith("  reach 90 %, a <b> 10 %")
    assert report.weight_lines({}) == []
