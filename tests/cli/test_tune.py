import json
import shutil

import pytest

from metajax import cli, runs
from metajax.engine import load
from metajax.search import study


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs a command in this process, in a folder; returns its exit status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_tune_searches_and_train_and_fit_take_what_it_found(run, small, tmp_path):
    tune = ("tune", "--method=item_mean", "--trials=6")
    status, out, _ = run(*tune, "--data", small)
    assert status == 0
    path = tmp_path / "runs" / f"{small.stem}-item_mean-study.jsonl"
    lines = out.splitlines()
    found = study.read(path)
    best = study.best_of(found)
    assert lines[0] == (
        f"Best validation RMSE in standardised labels {best.loss:.4f}, in trial {best.index} of 6."
    )
    assert lines[1] == f"Settings: item_shrinkage={best.chosen['item_shrinkage']:.4g}."
    assert lines[3] == f"Train with it: metajax train --from-study runs/{path.name}"
    page = path.with_suffix(".html").read_text()
    assert f"{best.loss:.4f}" in page
    assert "Importance of settings" in page
    assert "<script" not in page

    # The same command makes no more trials; more of them are added.
    run(*tune, "--data", small)
    assert study.read(path) == found
    run("tune", "--method=item_mean", "--trials=7", "--data", small)
    assert study.read(path).trials[:6] == found.trials
    assert len(study.read(path).trials) == 7

    best = study.best_of(study.read(path))
    status, out, _ = run("train", "--from-study", path, "--no-report", "--run", "trained")
    assert status == 0
    settings = json.loads((tmp_path / "trained" / "settings.json").read_text())
    assert settings["item_mean"] == dict(best.chosen)
    opened = runs.open_run(tmp_path / "trained")
    assert opened.settings == runs.settings_of(tmp_path / "trained")
    params = opened.params(runs.resumed(opened))
    assert set(params) == {"item_mean"}
    assert runs.load(tmp_path / "trained").rating

    status, out, _ = run("fit", "--from-study", path, "--output", "model")
    assert status == 0
    assert load(tmp_path / "model").settings == dict(best.chosen)


def test_a_study_of_another_method_data_set_or_setting_is_refused(run, small, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(small, other)
    (small_log,) = other.glob("*.inter")
    small_log.rename(other / "other.inter")
    for name in ("user", "item"):
        (other / f"small.{name}").rename(other / f"other.{name}")
    lines = (other / "other.inter").read_text().splitlines(keepends=True)
    (other / "other.inter").write_text("".join(lines[:-1]))
    path = tmp_path / "s.jsonl"
    tune = ("tune", "--trials=1", "--storage", path)
    assert run(*tune, "--method=item_mean", "--data", small)[0] == 0
    refusals = [
        (
            (*tune, "--method=item_user_bias", "--data", small),
            f"{path}: a study of another method, item_mean; got item_user_bias.",
        ),
        ((*tune, "--method=item_mean", "--data", other), f"{path}: a study of another data set, "),
        (
            (*tune, "--method=item_mean", "--data", small, "--fold=1"),
            f"{path}: a study of another fold 0; got 1.",
        ),
        (
            ("train", "--from-study", path, "--method=popularity"),
            f"{path}: a study of another method, item_mean; got popularity.",
        ),
        (("train", "--from-study", path, "--data", other), f"{path}: a study of another data set"),
        (
            ("fit", "--from-study", path, "--output=m", "--data", other),
            f"{path}: a study of another data set",
        ),
        (
            ("train", "--from-study", path, "--fold=1"),
            "--fold must be left out: --from-study has the settings.",
        ),
        (("train", "--from-study", path, "--resume=r"), "--resume and --from-study exclude"),
        (
            ("fit", "--from-study", path, "--output=m", "--trials=2"),
            "--trials and --from-study exclude",
        ),
        (("train", "--from-study", other / "other.inter"), "other.inter: holds no study"),
        (("graph", "train", "--from-study", path), f"{path}: a study of item_mean: use metajax"),
        (
            ("tune", "--method=target_only", "--data", small),
            "method 'target_only' needs two domains",
        ),
        ((*tune, "--method=item_mean", "--data", small, "--workers=0"), "workers must be >= 1"),
    ]
    for command, message in refusals:
        status, _, err = run(*command)
        line = [line for line in err.splitlines() if line.startswith("metajax: ")]
        assert status == 2, command
        assert len(line) == 1, command
        assert message in line[0], command
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").glob("*mean*"))


@pytest.mark.slow
def test_a_trained_method_keeps_what_is_given_and_searches_the_rest(run, quick, small, tmp_path):
    names = ("tasks", "query", "per_dispatch", "validate_every")
    options = [f"--{n.replace('_', '-')}={getattr(quick, n)}" for n in names]
    own = [f"--maml.{n}={getattr(quick.options, n)}" for n in ("rank", "width", "embedding")]
    given = [*options, *own, "--updates=10", "--data", small]
    path = tmp_path / "s.jsonl"
    assert run("tune", *given, "--trials=2", "--storage", path)[0] == 0
    found = study.read(path)
    assert found.facts["method"] == "maml"
    assert found.facts["space"].keys() == {"rate", "weight_decay", "clip", "steps", "inner_rate"}
    assert found.facts["settings"]["maml"]["rank"] == 2
    assert [list(t.curve) for t in found.trials] == [[10], [10]]
    settings = study.settings_of(found)
    best = study.best_of(found)
    assert settings.updates == 10
    assert settings.options.steps == best.chosen["steps"]

    status, out, _ = run("train", "--from-study", path, "--no-report", "--run", "trained")
    assert status == 0
    # The same settings, data, seed and program.
    assert f"Best validation RMSE {best.loss:.4f} at update 10." in out
    assert runs.settings_of(tmp_path / "trained") == settings


@pytest.mark.slow
def test_a_graph_is_tuned_by_its_validation_triples(run, films, tmp_path):
    path = tmp_path / "s.jsonl"
    given = ("--source", films, "--share=0.1", "--epochs=2", "--validate-every=1", "--width=4")
    status, out, _ = run("graph", "tune", *given, "--trials=2", "--storage", path)
    assert status == 0
    found = study.read(path)
    assert found.facts["space"].keys() == {"margin", "temperature", "negatives", "rate"}
    assert found.facts["space"]["negatives"] == "5 to 20"
    assert f"Best 1 - MRR of validation triples {study.best_of(found).loss:.4f}" in out
    status, out, _ = run("graph", "train", "--from-study", path, "--run", "trained")
    assert status == 0
    assert f"Best validation MRR {1 - study.best_of(found).loss:.4f}" in out

    other = tmp_path / "other.tsv"
    other.write_text("".join(films.read_text().splitlines(keepends=True)[:-1]))
    for command in (
        ("graph", "tune", "--source", other, *given[2:], "--storage", path),
        ("graph", "train", "--from-study", path, "--source", other, "--run", "other"),
    ):
        status, _, err = run(*command)
        assert status == 2
        assert f"{path}: a study of another data set, " in err
    assert not (tmp_path / "other").exists()
    status, _, err = run("graph", "train", "--from-study", path, "--margin=3")
    assert status == 2
    assert "--from-study has the settings" in err
