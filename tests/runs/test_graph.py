import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from metajax import runs
from metajax.checkpoint import CheckpointError
from metajax.knowledge import (
    GraphSettings,
    filtered_ranks,
    predictor_of,
    ranking_metrics,
    read_graph,
)
from metajax.runs import graph as graph_runs
from metajax.runs import last_good
from metajax.training import DivergedError


@pytest.fixture(scope="module")
def settings(films):
    return GraphSettings(
        str(films), without=("*award*",), share=0.1, width=4, margin=3.0, negatives=4, rate=0.05,
        batch=32, epochs=6, validate_every=2,
    )  # fmt: skip


def begun(folder, settings):
    return graph_runs.create(folder, settings, read_graph(settings.source))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, settings):
    """A finished run, its last progress and its ranks, not to be written to."""
    folder = tmp_path_factory.mktemp("graphs") / "trained"
    run, progress = begun(folder, settings)
    progress, finished = runs.train_run(run, progress)
    assert finished
    found = graph_runs.judge(run, progress.best)
    graph_runs.write_report(run, found)
    return folder, progress, found


def assert_same_bits(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


def test_a_run_that_was_stopped_continues_to_the_same_bits(tmp_path, settings, trained):
    folder, undisturbed, _ = trained
    run, progress = begun(tmp_path / "stopped", settings)
    rows = []
    # After three epochs: between two validations.
    _, finished = runs.train_run(run, progress, on_row=rows.append, stop=lambda: len(rows) >= 3)
    assert not finished
    assert rows[-1].epoch == 3
    again = graph_runs.open_run(tmp_path / "stopped")
    resumed, finished = runs.train_run(again, runs.resumed(again))
    assert finished
    assert_same_bits(resumed, undisturbed)
    for name in ("metrics.jsonl", "settings.json", "graph.json"):
        assert (tmp_path / "stopped" / name).read_text() == (folder / name).read_text()


def test_a_run_is_resumed_without_its_source(tmp_path, settings, trained):
    source = shutil.copy(settings.source, tmp_path / "films.tsv")
    run, progress = begun(tmp_path / "run", dataclasses.replace(settings, source=str(source)))
    source.unlink()
    run = graph_runs.open_run(tmp_path / "run")
    progress, _ = runs.train_run(run, runs.resumed(run))
    assert_same_bits(progress, trained[1])


def test_the_report_holds_the_ranks_of_test_triples(trained):
    folder, progress, found = trained
    run = graph_runs.open_run(folder)
    ranks = filtered_ranks(
        predictor_of(run.settings).score,
        runs.resumed(run).best,
        run.split.test.triples,
        entities=len(run.split.training.entities.names),
        relations=2,
        known=run.split.known,
    )
    assert found["realistic"] == ranking_metrics(ranks)
    assert found["optimistic"]["mrr"] == found["realistic"]["mrr_optimistic"]
    assert found["pessimistic"]["mrr"] == found["realistic"]["mrr_pessimistic"]
    both = (found["heads"]["mrr"] + found["tails"]["mrr"]) / 2
    assert both == pytest.approx(found["realistic"]["mrr"], rel=1e-9)
    result = json.loads((folder / "report.json").read_text())
    assert (result["queries"], result["realistic"]) == (16, found["realistic"])
    assert_same_bits(runs.resumed(run), progress)


def test_known_facts_of_all_parts_are_left_out_of_completions(trained):
    folder, progress, _ = trained
    run = graph_runs.open_run(folder)
    for part in (run.split.training, run.split.validation, run.split.test):
        head, relation, tail = part.triples[0]
        names = part.entities.names
        queried = {"entity": names[head], "relation": part.relations.names[relation], "top": 99}
        found = graph_runs.answers(run, progress.best, **queried)
        assert names[tail] not in [answer.entity for answer in found.answers]
        found = graph_runs.answers(run, progress.best, **queried, keep_known=True)
        assert names[tail] in [answer.entity for answer in found.answers if answer.known]


def test_diverging_embeddings_leave_a_usable_checkpoint(tmp_path, settings):
    run, progress = begun(tmp_path / "run", settings)
    good, _ = runs.train_run(run, progress)
    run = run._replace(settings=dataclasses.replace(settings, rate=1e6, epochs=9))
    with pytest.raises(DivergedError, match="largest number of an embedding"):
        runs.train_run(run, runs.resumed(run))
    result = last_good(tmp_path / "run")
    assert result.startswith(f"The last good checkpoint is of update {int(good.state.step)}, in ")
    reached = runs.resumed(graph_runs.open_run(tmp_path / "run"))
    assert_same_bits(reached, good)
    found = graph_runs.answers(run, reached.best, entity="film3", relation="genre", top=1)
    assert np.isfinite(found.answers[0].score)


def test_a_flipped_bit_in_any_file_is_refused_and_the_file_named(tmp_path, trained):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    last = max((folder / "checkpoints").iterdir())
    for step in (folder / "checkpoints").iterdir():
        if step != last:
            shutil.rmtree(step)
    rng = np.random.default_rng(0)
    names = "settings.json graph.json metrics.jsonl checkpoints/{0}/arrays.bin"
    for name in (*names.split(), "checkpoints/{0}/manifest.json"):
        file = folder / name.format(last.name)
        content = file.read_bytes()
        for bit in rng.choice(8 * len(content), 4, replace=False):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            with pytest.raises((CheckpointError, ValueError), match=re.escape(file.name)):
                runs.resumed(graph_runs.open_run(folder), on_skip=lambda step, reason: None)
        file.write_bytes(content)
    assert_same_bits(runs.resumed(graph_runs.open_run(folder)), trained[1])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("graph.json", "{}", r"graph\.json: not the graph of a run"),
        ("settings.json", "{}", r"settings\.json: not the settings of a run on a graph"),
        (
            "settings.json",
            '{"without": [], "widht": 8}',
            r"a run on a graph: GraphSettings: unknown setting 'widht'; did you mean 'width'\?$",
        ),
    ],
)
def test_a_file_of_another_version_is_named(tmp_path, trained, name, text, words, monkeypatch):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}: is damaged"):
        graph_runs.open_run(folder)
    monkeypatch.setattr(graph_runs, "check_files", lambda folder: None)
    with pytest.raises(ValueError, match=words):
        graph_runs.open_run(folder)


def test_settings_that_no_longer_fit_the_checkpoint_are_named(tmp_path, trained):
    folder, run = shutil.copytree(trained[0], tmp_path / "run"), graph_runs.open_run(trained[0])
    run = run._replace(folder=folder, settings=dataclasses.replace(run.settings, width=5))
    with pytest.raises(ValueError, match=r"settings\.json: do not fit the checkpoint"):
        runs.resumed(run)
    shutil.rmtree(folder / "checkpoints")
    for use in (runs.resumed, lambda run: graph_runs.open_run(folder)):
        with pytest.raises(CheckpointError, match="no good checkpoint"):
            use(run)


def test_invalid_settings_leave_no_folder(tmp_path, settings):
    for changes, error, words in (
        ({"without": ("*",)}, ValueError, "at least one triple"),
        ({"without": ("actor",)}, KeyError, "no relation matches 'actor'"),
        ({"share": 0.9}, ValueError, r"share must be in \[0, 0.5\), got 0.9"),
        ({"share": 0.49}, ValueError, "share must leave"),
        ({"width": 0}, ValueError, "width must be >= 1"),
        ({"score": "rotate"}, ValueError, "score must be one of"),
    ):
        with pytest.raises(error, match=words):
            begun(tmp_path / "run", dataclasses.replace(settings, **changes))
    assert not (tmp_path / "run").exists()


def test_a_run_is_never_overwritten(settings, trained):
    with pytest.raises(FileExistsError):
        begun(trained[0], settings)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, settings, trained):
    """SIGKILL at a random moment; nothing can be finished or saved then."""
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "metajax", "graph", "train", f"--run={folder}"]
    for name, value in dataclasses.asdict(settings).items():
        for one in value if isinstance(value, tuple) else [value]:
            command += [] if one is None else [f"--{name.replace('_', '-')}={one}"]
    process = subprocess.Popen(command, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "00000004").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    run = graph_runs.open_run(folder)
    progress, _ = runs.train_run(run, runs.resumed(run))
    assert_same_bits(progress, trained[1])
