import re

import pytest

from metajax import display, evaluation, runs
from metajax.data import load
from metajax.evaluation import Compared, Record
from metajax.knowledge import graph_from_names


def record(method, k, mean, **changes):
    kind = "learned" if changes else "baseline"
    return Record(
        method=method, kind=kind, protocol="P1", order="random", k=k, metric="rmse", mean=mean,
        low=mean - 0.1, high=mean + 0.1, seeds=(0,), **changes,
    )  # fmt: skip


PAIRED = {"best_baseline": "<mean>", "difference": -0.1}
RECORDS = [
    record("<mean>", 0, 1.0),
    record("<mean>", 5, 1.0),
    record("maml", 0, 0.9, **PAIRED, difference_low=-0.2, difference_high=-0.05),
    record("maml", 5, 1.1, **PAIRED, difference_low=0.01, difference_high=0.2),
]


def test_records_become_tables_with_best_and_verdict():
    shown = evaluation.to_html(RECORDS)
    assert "<td>&lt;mean&gt;</td><td>1.000</td><td><b>1.000</b></td>" in shown
    assert "<td>maml</td><td><b>0.900 +</b></td><td>1.100 \u2212</td>" in shown
    assert "RMSE, random order, protocol P1 (lower is better)" in shown
    with pytest.raises(ValueError, match=r"^metrics must be among the records' \['rmse'\], got"):
        evaluation.to_html(RECORDS, ["ndcg@10"])
    page = Compared(RECORDS, ["Left out: <x>."], ("Take maml.",))._repr_html_()
    assert page.startswith(shown)
    assert page.endswith("<p>Take maml.</p><p>Left out: &lt;x&gt;.</p>")


def test_data_and_graphs_tell_what_they_are():
    shown = load("synthetic")._repr_html_()
    assert "<th>users</th><td>600</td>" in shown
    graph = graph_from_names([("a", "<r>", "b"), ("b", "s", "c"), ("a", "s", "c")])
    assert "<th>triples</th><td>3</td>" in graph._repr_html_()
    assert "<td>s</td><td>2</td>" in graph._repr_html_()
    assert "&lt;r&gt;" in graph._repr_html_()


def test_a_list_of_items_is_a_table_of_what_it_has():
    shown = runs.Recommendations(
        [
            runs.Recommendation("<Fargo>", 4.25, "f", 0.5, reasons=(("Heat", 0.125),)),
            runs.Recommendation("Alien", 4.0, "a"),
        ]
    )
    table = shown._repr_html_()
    assert "<th>±</th><th>raised by</th></tr>" in table
    assert "<td>1</td><td>&lt;Fargo&gt;</td><td>4.25</td><td>0.50</td><td>Heat +0.12</td>" in table
    assert "the same" not in table
    assert "<th>±</th>" not in runs.Recommendations(shown[1:])._repr_html_()
    assert runs.Recommendations()._repr_html_()
    assert shown == list(shown)


def test_a_page_is_shown_in_a_frame_that_runs_nothing():
    page = display.Html('<!DOCTYPE html><script>"&"</script>')
    shown = page._repr_html_()
    assert shown.startswith("<iframe sandbox srcdoc=")
    assert "<script>" not in shown


def test_rows_have_as_many_cells_as_the_header():
    with pytest.raises(ValueError, match=r"^rows must have 2 cells each, got 1\.$"):
        display.grid(["a", "b"], [[1]])


def test_progress_in_a_log_is_few_lines(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    with display.progress("Fitting") as tell:
        for step in range(100):
            now[0] += 0.5
            tell(f"stage {step}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[0] == "Fitting: stage 9"
    assert lines[-1] == "Fitting: done in 50 s"
    with display.progress("Quick") as tell:
        tell("stage")
    assert capsys.readouterr().err == ""


NOTEBOOK = """
import time
import metajax as mj
from metajax import data, display, evaluation
---
data.load("synthetic")
---
with display.progress("Fitting") as tell:
    solver = mj.ColdStartSolver(meta_method="item_user_bias").train("synthetic", begin=tell)
    for step in range(200):
        tell(f"stage {step}")
        time.sleep(0.005)
---
solver
---
records = solver.evaluate(baselines=["item_mean"])
evaluation.to_html(records)
---
mj.report.html(records)
"""


@pytest.mark.slow
def test_a_notebook_shows_tables_models_reports_and_one_bar(tmp_path):
    import nbclient
    import nbformat

    # Their own, so that nothing of this process is shared.
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in NOTEBOOK.split("---")],
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
    )
    client = nbclient.NotebookClient(
        book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [cell.outputs for cell in book.cells]
    # No output but what a cell returns: no warnings, no lines of bars.
    assert [len(found) for found in outputs] == [0, 1, 1, 1, 1, 1]
    shown = ["".join(found[0].data["text/html"]) for found in outputs[1:]]
    assert "Data set synthetic" in shown[0]
    assert re.search(r"Fitting: done in \d+ s", shown[1])
    assert "Model of item_user_bias" in shown[2]
    assert "<td>item_mean</td>" in shown[3]
    assert shown[4].startswith("<iframe sandbox srcdoc=")
