import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from metajax import evaluation, report
from metajax.cross_domain.domains import random_domains
from metajax.cross_domain.users import PANEL
from metajax.data.datasets import load
from metajax.evaluation.cells import Cell, Outcome
from metajax.evaluation.evaluate import Evaluation, PerUser
from metajax.evaluation.intervals import paired_difference
from metajax.evaluation.metrics import named
from metajax.evaluation.records import (
    from_json,
    negative_transfer,
    select,
    to_csv,
    to_json,
    to_polars,
    validate,
    verdict_of,
)
from metajax.evaluation.tables import Judged, compared, table

KS = (0, 1)


def evaluation_of(method: str, errors: Any) -> Evaluation:
    """Squared errors by support size and user, of one rating each."""
    errors = np.asarray(errors, np.float64)
    users = errors.shape[1]
    per_user = PerUser(
        user=np.arange(users),
        run=np.zeros(users, int),
        count=np.ones_like(errors),
        has_relevant=np.zeros_like(errors, bool),
        top_items=np.full((len(KS), users, 1), -1),
        values={"rmse": errors, "mae": np.sqrt(errors)},
    )
    return Evaluation(method, KS, 9, (named("rmse"), named("mae")), per_user)


def found(panel=PANEL):
    """Without transfer the error is about 1; at K = 1 seeing the target's ratings halves it."""
    spread = np.linspace(0.9, 1.1, 40)
    item_mean, target_only = [spread, spread], [1.2 * spread, 0.25 * spread]
    by_method: dict[str, tuple[Literal["baseline", "learned"], Any]] = {
        "item_mean": ("baseline", item_mean),
        "target_only": ("baseline", target_only),
        "better": ("learned", [0.5 * spread, 0.2 * spread]),
        "misled": ("learned", [0.5 * spread, 0.49 * spread]),
        "same": ("baseline", [spread[::-1], 0.25 * spread[::-1]]),
    }
    judged = [
        Judged(kind, {panel: evaluation_of(name, errors)})
        for name, (kind, errors) in by_method.items()
    ]
    return judged, table(judged, protocol="overlap 1", seeds=[0])


def test_each_method_is_compared_with_the_best_of_the_target_alone():
    judged, records = found()
    misled, mean, local = (judged[n].by_order[PANEL] for n in (3, 0, 1))
    at_zero, at_one = select(records, method="misled", metric="rmse")
    for record, rival, at in ((at_zero, mean, 0), (at_one, local, 1)):
        expected = paired_difference(misled, rival, "rmse")
        assert record.no_transfer == rival.method
        for end, name in (("mean", ""), ("low", "_low"), ("high", "_high")):
            ours = getattr(record, f"no_transfer_difference{name}")
            assert ours == pytest.approx(getattr(expected, end)[at])
    # sqrt(.49) - sqrt(.25), both times the same root mean square of about 1.
    assert at_one.no_transfer_difference == pytest.approx(0.2, rel=1e-2)
    assert not any(r.no_transfer is not None for r in records if r.method == "item_mean")
    validate(records)


def test_warnings_need_an_interval_without_zero():
    _, records = found()
    (sentence,) = negative_transfer(records)
    (at_one,) = select(records, method="misled", metric="rmse", k=1)
    low, high = (getattr(at_one, f"no_transfer_difference_{end}") for end in ("low", "high"))
    assert sentence == (
        "Negative transfer: misled is worse than no transfer under overlap 1, in RMSE by "
        f"{at_one.no_transfer_difference:.4f} [{low:.4f}, {high:.4f}] at K = 1 (target_only)."
    )


def test_one_domain_has_no_comparison_with_no_transfer():
    _, records = found("random")
    assert not any(record.no_transfer is not None for record in records)
    assert negative_transfer(records) == []


def test_a_difference_that_is_no_number_is_refused():
    _, records = found()
    with pytest.raises(ValueError, match="no_transfer_difference must be finite"):
        replace(records[-1], no_transfer_difference=float("nan"))


def test_a_comparison_across_domains_warns_of_the_source_of_another():
    """With the source histories dealt out anew, a method that uses them is worse."""
    domains = random_domains(load("synthetic"))
    comparison = evaluation.compare(
        domains.dataset,
        ["item_mean", "target_only", "item_user_bias"],
        protocols={"shuffled": evaluation.cross_domain(domains, shuffled=True)},
        folds=[0],
        trials=1,
    )
    paired = {r.method for r in comparison.records if r.no_transfer is not None}
    assert paired == {"item_user_bias"}
    (note,) = comparison.notes
    assert note.startswith("Negative transfer: item_user_bias is worse than no transfer")
    assert "at K = 0 (" in note
    page = report.html(comparison.records, notes=comparison.notes)
    assert note in page


@pytest.mark.parametrize(
    "name", ["cold_start_accuracy", "cross_domain_accuracy", "cross_domain_synthetic"]
)
def test_the_committed_records_come_back_as_they_were(name):
    path = Path(__file__).parents[2] / "benchmarks" / "results" / f"{name}.json"
    rows = json.loads(path.read_text())
    assert to_json(from_json(rows)) == rows


def test_a_record_of_another_study_keeps_its_columns():
    _, records = found()
    noted = [replace(record, facts={"pair": "A", "overlap": 0.5}) for record in records]
    rows = to_json(noted)
    assert all(row["pair"] == "A" and row["overlap"] == 0.5 for row in rows)
    assert from_json(rows) == noted
    header, first, *_ = to_csv(noted).splitlines()
    assert header.split(",")[:3] == ["method", "protocol", "order"]
    assert {"pair", "overlap", "no_transfer_difference"} <= set(header.split(","))
    assert first.split(",")[0] == records[0].method


def test_a_frame_without_polars_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"polars: pip install 'metajax\[cli\]'"):
        to_polars(found()[1])


def test_the_best_baseline_is_that_of_each_size_and_the_way_of_the_metric():
    def judged(name, kind, errors, ndcg):
        evaluation = evaluation_of(name, np.repeat(np.array(errors)[:, None], 8, axis=1))
        user = evaluation.per_user
        values = user.values | {"ndcg@1": np.repeat(np.array(ndcg)[:, None], 8, axis=1)}
        user = user._replace(values=values, has_relevant=np.ones((2, 8), bool))
        metrics = (*evaluation.metrics, named("ndcg@1"))
        return Judged(kind, {"random": evaluation._replace(per_user=user, metrics=metrics)})

    records = table(
        [
            judged("one", "baseline", [1.0, 4.0], [0.2, 0.6]),
            judged("other", "baseline", [2.0, 3.0], [0.3, 0.5]),
            judged("learned", "learned", [1.5, 2.0], [0.4, 0.4]),
        ],
        protocol="P1",
        seeds=[0],
    )
    best = {(r.metric, r.k): r for r in select(records, method="learned")}
    assert [best["rmse", k].best_baseline for k in KS] == ["one", "other"]
    assert [best["ndcg@1", k].best_baseline for k in KS] == ["other", "one"]
    differences = [best["ndcg@1", k].difference for k in KS]
    assert differences == pytest.approx([0.4 - 0.3, 0.4 - 0.6])
    assert [verdict_of(best["ndcg@1", k]) for k in KS] == ["better", "worse"]


def test_one_model_for_all_panels_is_a_row_beside_the_settings_of_each_panel():
    by_order = {"random": evaluation_of("m", np.ones((2, 8)))}
    one = {"random": evaluation_of("m", np.full((2, 8), 3.0))}
    chose_alike = Outcome("learned", by_order, {}, {}, None, "")
    chose_apart = chose_alike._replace(one_model=one)
    cells = [Cell("m", "P1", fold, 0) for fold in (0, 1)]
    assert {r.method for r in compared(dict.fromkeys(cells, chose_alike)).records} == {"m"}
    found = compared(dict(zip(cells, (chose_alike, chose_apart), strict=True))).records
    rmse = {r.method: r.mean for r in found if (r.metric, r.k) == ("rmse", KS[0])}
    # Of squared errors of 1 where the panels chose alike, and of 3.
    assert rmse == pytest.approx({"m": 1, "m, one model": np.sqrt(2)})


def test_a_method_that_failed_on_one_fold_has_no_figure():
    whole = Outcome("baseline", {"random": evaluation_of("m", np.ones((2, 8)))}, {}, {}, None, "")
    failed = Outcome("baseline", {}, {}, {}, None, "broken predicts NaN")
    outcomes = {
        Cell(name, "P1", fold, 0): failed if (name, fold) == ("failed", 1) else whole
        for name in ("whole", "failed")
        for fold in (0, 1)
    }
    found = compared(outcomes)
    assert {r.seeds for r in found.records} == {(0,)}
    assert len(found.records) == len(KS) * 2
    assert found.notes == ["Left out: failed under P1, fold 1, seed 0: broken predicts NaN"]
    assert compared(dict.fromkeys(outcomes, failed)).records == []
