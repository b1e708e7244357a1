import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from metajax import cli


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs a command in this process; returns its exit status and what it printed."""
    for name in [name for name in os.environ if name.startswith("METAJAX_")]:
        if name != "METAJAX_CACHE":
            monkeypatch.delenv(name)

    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


@pytest.fixture
def options(quick):
    """The quick settings, as options."""
    names = ("updates", "tasks", "query", "per_dispatch", "validate_every", "data")
    chosen = [f"--{n.replace('_', '-')}={getattr(quick, n)}" for n in names]
    names = ("rank", "width", "embedding", "steps", "inner_rate")
    own = [f"--maml.{n.replace('_', '-')}={getattr(quick.options, n)}" for n in names]
    return [*chosen, *own]


def one_line(printed):
    # Lines about work under way are not counted; a message may end like them.
    working = lambda line: line.endswith(" ...") and not line.startswith("metajax: ")  # noqa: E731
    lines = [line for line in printed.splitlines() if not working(line)]
    assert len(lines) == 1, printed
    return lines[0]


def test_help_lists_the_commands_and_imports_none_of_them():
    program = """
import sys
import metajax
before = set(sys.modules)
from metajax import cli
cli.main(["--help"])
print(*sorted(name for name in set(sys.modules) - before if name.split(".")[0] != "cyclopts"))
"""
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    *table, imported = printed.splitlines()
    for name in ("compare", "data", "evaluate", "graph", "recommend", "train", "transfer"):
        assert any(f" {name} " in line for line in table), name
    ours = {name for name in imported.split() if name.split(".")[0] == "metajax"}
    wanted = {
        "characters",
        "cli",
        "cli.app",
        "cli.console",
        "cli.signals",
        "fields",
        "files",
        "steps",
    }
    assert ours == {f"metajax.{name}" for name in wanted}
    assert not {"jax", "numpy", "optax"} & set(imported.split())


def test_a_reader_that_has_gone_ends_a_command_quietly():
    """Of `| head -1`: a pipe of which the other end is closed."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as gone:
        command = [sys.executable, "-m", "metajax", "--help"]
        ended = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.slow
def test_train_judges_reports_and_recommends(run, options, tmp_path):
    folder = tmp_path / "run"
    status, out, _ = run("train", *options, "--run", folder)
    assert status == 0
    assert "fold 0: 27 users train, 5 validate, 8 are cold" in out
    records = json.loads((folder / "report.json").read_text())
    assert {"maml", "eb_fold_in", "two_tower", "ease"} <= {r["method"] for r in records}
    assert {(r["order"], r["k"]) for r in records} == {
        (order, k) for order in ("random", "time") for k in (0, 1, 3, 5, 10)
    }
    learned = [r for r in records if r["kind"] == "learned" and r["metric"] == "rmse"]
    assert all(r["difference_low"] <= r["difference"] <= r["difference_high"] for r in learned)
    assert (folder / "report.html").read_text().startswith("<!")

    status, out, _ = run("evaluate", folder)
    assert status == 0
    assert json.loads((folder / "report.json").read_text()) == records

    status, out, _ = run(
        "recommend", folder, "--ratings", "Film 3=5", "--user", "age=30", "--top=2"
    )
    assert status == 0
    assert len(out.splitlines()) == 2
    assert all(line[7:].startswith("Film ") for line in out.splitlines())


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_saves_and_prints_how_to_resume(run, options, tmp_path, number, expected):
    folder = tmp_path / "run"
    long = [*[o for o in options if not o.startswith("--updates")], "--updates=100000"]

    def interrupt():
        while not (folder / "checkpoints" / "00000010").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    status, _, err = run("train", *long, "--patience=100000", "--no-report", "--run", folder)
    thread.join()
    assert status == expected
    assert f"Resume: metajax train --resume {folder}" in err
    status, _, err = run("train", "--resume", folder, "--rate=0.5")
    assert status == 2
    assert one_line(err) == (
        f"metajax: --resume continues with the settings of {folder}; give no others."
    )


def test_compare_reports_and_resumes(run, small, tmp_path, monkeypatch):
    from metajax.evaluation import experiment

    folder = tmp_path / "comparison"
    (tmp_path / "a.toml").write_text("updates = 10\nscale = [1, 5]\n[maml]\nwidth = 4\n")
    words = ["compare", f"--data={small}", "--folds=1", "--protocols=P1", "--folder", folder]
    words += [f"--config={tmp_path / 'a.toml'}", "--trials=1"]
    status, out, err = run(*words, "--methods=item_mean,eb_fold_in")
    assert status == 0, err
    assert "RMSE, random order, protocol P1" in out
    assert out.splitlines()[-1] == f"Report: {folder / 'report.html'}"
    assert (folder / "report.html").read_text().startswith("<!")
    records = json.loads((folder / "report.json").read_text())
    assert {r["method"] for r in records} == {"item_mean", "eb_fold_in"}

    def interrupted(plan, *rest):
        assert plan.conditions["cell"].method == "popularity"
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(experiment, "_judged", interrupted)
    status, _, err = run(*words, "--methods=item_mean,popularity")
    assert status == 143
    assert f"stopped; finished parts are in {folder}. The same command resumes." in err


def test_compare_adds_a_row_of_one_model_for_both_orders(run, small, tmp_path):
    words = [f"--data={small}", "--methods=item_knn", "--protocols=P1", "--folds=1", "--trials=3"]
    for option, rows in (
        ("--no-one-model", {"item_knn"}),
        ("--one-model", {"item_knn", "item_knn, one model"}),
    ):
        folder = tmp_path / option[2:]
        status, _, err = run("compare", *words, option, "--folder", folder)
        assert status == 0, err
        assert {r["method"] for r in json.loads((folder / "report.json").read_text())} == rows


def test_compare_says_that_settings_were_chosen_by_cross_fitting(run, small, tmp_path):
    words = ["compare", f"--data={small}", "--methods=item_knn", "--folds=1", "--trials=2"]
    folder = tmp_path / "comparison"
    for option, cells in (("--cross-fit", 1), ("--no-cross-fit", 2)):
        more = [] if cells == 1 else ["--protocols=P1"]
        status, _, err = run(*words, option, *more, "--folder", folder)
        assert status == 0, err
        page = (folder / "report.html").read_text()
        assert ("by cross-fitting over training and validation users" in page) == (cells == 1)
        # The choice is a condition of the figures: neither takes the other's cells.
        assert len(list((folder / "cells").iterdir())) == cells
    status, _, err = run(*words, "--cross-fit", "--protocols=P1,P2", "--folder", folder)
    assert status == 2
    assert "cross-fitting chooses settings for cold users, as in P1, not for P2." in one_line(err)


@pytest.mark.parametrize(
    ("rows", "said", "needed", "left"),
    [
        ([f"u,p{i},{1 + i % 5}" for i in range(9)], "1 users and 9 items", "10 users", 8),
        ([f"u{u},p0,{1 + u % 5}" for u in range(30)], "30 users and 1 items", "two items", 0),
    ],
    ids=["one user", "one item"],
)
def test_the_smallest_logs_are_described_fitted_and_served(
    run, tmp_path, monkeypatch, rows, said, needed, left
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text("\n".join(["user,item,rating", *rows]) + "\n")
    _, out, _ = run("data", "log.csv")
    assert f"there are {said}: to train and judge takes 10 users and 2 items" in out
    for method in ("eb_fold_in", "maml"):
        status, _, err = run("train", "--data=log.csv", "--no-report", "--method", method)
        assert status == 2
        assert f"log.csv: training needs {needed}" in one_line(err)
    status, out, err = run("fit", "--data=log.csv", "--method=item_knn", "--output=model")
    assert status == 0, err
    assert out.endswith("metajax recommend model --ratings 'TITLE=5'\n")
    status, out, err = run("recommend", "model", "--ratings=p0=5", "--top=20", "--json")
    assert (status, len(json.loads(out))) == (0, left)
    assert ("no item is left: the user has met all" in err) == (not left)


def test_settings_that_predict_alike_are_said_to(run, tmp_path):
    """Where every item has one rating, those of cold users are all predicted alike."""
    rows = [f"u{u},p{u},{1 + u % 5}" for u in range(30)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,rating", *rows]) + "\n")
    words = ["train", f"--data={tmp_path / 'log.csv'}", "--method=eb_fold_in", "--no-report"]
    status, out, err = run(*words, "--run", tmp_path / "run")
    assert status == 0, err
    assert "inf" not in out
    assert "Validation tells no setting from another: the first, of 4 settings with rank=" in out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fold = 2", "a.toml: fold is chosen by the comparison, got 2."),
        ("step = 2", "a.toml: unknown setting 'step'; did you mean 'steps'?"),
        ("steps = 0", "steps must be >= 1, got 0"),
    ],
)
def test_settings_that_do_not_suit_a_comparison_are_named(run, text, words, tmp_path):
    (tmp_path / "a.toml").write_text(text)
    folder = tmp_path / "comparison"
    arguments = ["--data=synthetic", f"--config={tmp_path / 'a.toml'}", "--folder", folder]
    status, _, err = run("compare", "--methods=maml", *arguments)
    assert status == 2
    assert words in one_line(err)
    assert not folder.exists()


def test_a_diverging_run_names_the_step_and_the_last_good_checkpoint(run, options, tmp_path):
    options = [o for o in options if not o.startswith(("--maml.inner-rate", "--maml.steps"))]
    wild = [*options, "--maml.inner-rate=9", "--maml.steps=6", "--run", tmp_path / "run"]
    status, _, err = run("train", *wild)
    assert status == 2
    assert "the meta-loss became" in err
    assert "at update" in err
    assert "checkpoint" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "trian"),
        (["train", "--maml.inner-rat=1"], "Did you mean --maml.inner-rate?"),
        (["train", "--inner-rate=1"], "--inner-rate is an option of maml: --maml.inner-rate."),
        (
            ["train", "--method=maml", "--fomaml.inner-rate=1"],
            "--fomaml.inner-rate is an option of fomaml, the method is maml.",
        ),
        (["train", "--rate=fast"], "--rate"),
        (["train", "--method=mmal"], "method must be a known name, got 'mmal'; did you mean"),
        (["train", "--maml.steps=0"], "steps must be >= 1, got 0"),
        (["train", "--maml.steps=2.5"], "command line: steps must be a whole number, got 2.5"),
        (["train", "--maml.steps", "2.5"], "command line: steps must be a whole number, got 2.5"),
        (["train", "--resume=a", "--run=b"], "--run must be left out, got b"),
        (
            ["recommend", "run", "--config=a.toml"],
            "metajax recommend takes no --config, got a.toml",
        ),
        (
            ["train", "--data=synthetic", "--maml.adapts=tower/*"],
            "adapts must fit a parameter, got 'tow",
        ),
        (["train", "--data=ml-100"], "did you mean 'ml-100k'?"),
        (["train", "--data=nothing.csv"], "nothing.csv"),
        (["train", "--resume=nothing"], "nothing: no run is here"),
        (["evaluate", "nothing"], "nothing: no run is here"),
        (["recommend", "nothing"], "nothing: no run is here"),
        (["recommend", "nothing", "--ratings=Fargo"], "--ratings must read 'name=value"),
        (["recommend", "nothing", "--ratings=Fargo=good"], "--ratings must rate by numbers"),
        (["data", "ml-100k", "--rating-column=stars"], "options are for paths"),
        (["train", "--config=nothing.toml"], "nothing.toml"),
        (
            ["compare", "--methods=maml,easy"],
            "method must be a known name, got 'easy'; did you mea",
        ),
        (["compare", "--protocols=P9"], "protocol must be a known name, got 'P9'"),
        (["compare", "--folds=6"], "folds must be in [0, 5)"),
        (["compare", "--seeds=0"], "seeds must be distinct and at least one, got []"),
        (["compare", "--trials=0", "--data=synthetic"], "trials must be >= 1, got 0"),
        (["compare", "--config=nothing.toml"], "nothing.toml"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(run, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert words in one_line(err)
    assert one_line(err).startswith("metajax: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("updats = 1", "a.toml: unknown setting 'updats'; did you mean 'updates'?"),
        (
            "[maml]\ninner_rat = 0.1",
            "a.toml, maml: unknown setting 'inner_rat'; did you mean 'inner_rate'?",
        ),
        ("rate = ", "a.toml: "),
        ("rate = 'fast'", "rate"),
        ("[maml]\nsteps = 2.5", "a.toml, maml: steps must be a whole number, got 2.5."),
    ],
)
def test_a_mistake_in_the_settings_file_is_named(run, text, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_text(text)
    status, _, err = run("train", "--config=a.toml")
    assert status == 2
    assert words in one_line(err)


def test_an_unknown_setting_in_the_environment_is_named(run, monkeypatch):
    monkeypatch.setenv("METAJAX_RATEE", "1")
    status, _, err = run("train")
    assert status == 2
    assert one_line(err).endswith("unknown setting 'ratee'; did you mean 'rate'?")


def test_the_environment_is_for_training_alone(run, tmp_path, monkeypatch):
    monkeypatch.setenv("METAJAX_SUPPORT", "0")
    log = tmp_path / "log.csv"
    log.write_text("user,item,rating\na,b,3\na,c,4\n")
    status, out, _ = run("data", log)
    assert status == 0
    assert "at most 10 interactions" in out


@pytest.mark.slow
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_evaluation_reports_the_saved_run(
    run, trained, monkeypatch, number, expected
):

    def interrupted(*args, **options):
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr("metajax.evaluation.judge_all", interrupted)
    # A test runner's workers may ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status, _, err = run("evaluate", trained[0])
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == expected
    assert f"the run is saved. Judge it: metajax evaluate {trained[0]}" in err


@pytest.mark.slow
def test_synthetic_data_are_trained_on_and_evaluated(run, tmp_path):
    """Whose ratings are no stars: no popularity of five stars alone, no rating of 4."""
    folder = tmp_path / "run"
    options = ["--maml.rank=2", "--maml.width=8", "--maml.embedding=4"]
    options += ["--updates=20", "--tasks=8", "--baselines=popularity,item_knn"]
    status, _, err = run("train", "--data=synthetic", *options, "--run", folder)
    assert status == 0, err
    records = json.loads((folder / "report.json").read_text())
    assert {"maml", "popularity", "item_knn"} <= {r["method"] for r in records}
    ranked = [r for r in records if r["metric"] == "ndcg@10" and r["method"] == "popularity"]
    assert all(r["mean"] > 0 for r in ranked)


def test_the_command_line_overrides_the_environment_and_that_the_file(
    run, options, tmp_path, monkeypatch
):
    (tmp_path / "a.toml").write_text("tasks = 7\nsupport = 7\nquery = 7\n")
    monkeypatch.setenv("METAJAX_SUPPORT", "6")
    monkeypatch.setenv("METAJAX_QUERY", "6")
    folder = tmp_path / "run"
    options = [o for o in options if not o.startswith(("--tasks", "--query", "--updates"))]
    last = ["--query=5", "--updates=10", "--no-report", "--run", folder]
    status, _, err = run("train", "--config", tmp_path / "a.toml", *options, *last)
    assert status == 0, err
    settings = json.loads((folder / "settings.json").read_text())
    assert (settings["tasks"], settings["support"], settings["query"]) == (7, 6, 5)


@pytest.mark.parametrize(
    ("given", "pretrained"),
    [
        (["--method=maml_from_random"], False),
        (["--method", "maml_from_random", "--maml_from_random.pretrained"], True),
        (["--config=a.toml"], False),
        (["--config=a.toml", "--method=maml"], True),
    ],
)
def test_a_learners_own_defaults_are_the_weakest(run, given, pretrained, tmp_path, monkeypatch):
    from metajax import runs

    chosen = []

    def created(folder, settings, dataset):
        chosen.append(settings)
        raise ValueError("enough")

    monkeypatch.setattr(runs, "create", created)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_text("method = 'maml_from_random'\n")
    run("train", "--data=synthetic", *given)
    assert [settings.options.pretrained for settings in chosen] == [pretrained]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("", "empty"),
        ("user,item,rating\n", "log.csv"),
        ("user,thing,rating\na,b,3\n", "name it with --item-column."),
        ("user,item,rating\na,b,good\n", "line 2, column 'rating'"),
        ("user,item,rating\na,b,3\na,c,inf\n", "line 3, column 'rating'"),
        ("user,item,rating\na,b,3\na,b,4\n", "--duplicates newest keeps the newest"),
    ],
)
def test_a_broken_log_is_named_by_line_and_column(run, rows, words, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text(rows)
    status, out, err = run("data", log)
    assert (status, out) == (2, "")
    assert words in one_line(err)
    assert "log.csv" in one_line(err)


def test_a_rating_off_the_scale_is_named(run, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user,item,rating\na,b,3\na,c,6\n")
    status, _, err = run("data", log, "--scale", "1", "5")
    assert status == 2
    assert "log.csv, line 3, column 'rating'" in one_line(err)
    assert "6" in one_line(err)


@pytest.mark.parametrize("command", ["evaluate", "recommend", "train --resume"])
def test_an_empty_checkpoint_folder_is_reported_in_one_line(run, trained, tmp_path, command):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").mkdir()
    status, _, err = run(*command.split(), folder)
    assert status == 2
    assert "checkpoints" in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("metajax: ")


def test_a_flipped_bit_is_reported_and_the_checkpoint_before_serves(run, trained, tmp_path):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    files = [p for p in (folder / "checkpoints" / "00000040").rglob("*") if p.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    for command in (["recommend", folder], ["train", "--no-report", "--resume", folder]):
        status, out, err = run(*command)
        assert status == 0
        assert "metajax: checkpoint of update 40 is damaged and left out" in err
    assert "at update 30" in out


def test_an_unknown_title_is_named_with_the_nearest(run, trained):
    status, _, err = run("recommend", trained[0], "--ratings=Flim 3=5")
    assert status == 2
    assert "no item has the title or id 'Flim 3'; nearest are 'Film 3'" in err


def test_recommendations_have_ids_and_can_be_json(run, trained):
    asked = ["recommend", trained[0], "--ratings=film 3=5, 4=2", "--top=3"]
    status, out, err = run(*asked, "--json")
    assert status == 0
    found = json.loads(out)
    assert [sorted(one) for one in found] == 3 * [["id", "score", "title"]]
    assert all(one["title"] == f"Film {one['id']}" for one in found)
    assert "note" not in err
    _, out, err = run(*asked, "--user=gender=x")
    assert [line.rpartition("  ")[2] for line in out.splitlines()] == [
        f"[{one['id']}]" for one in found
    ]
    assert "metajax: note: gender 'x' is unknown and counts as such; known are F, M." in err
    status, out, err = run("recommend", trained[0], "--items=film 3, 4")
    assert status == 0
    assert "note: the items have no ratings and count as rated 4, the median of the rel" in err
    assert out == run("recommend", trained[0], "--ratings=film 3=4, 4=4")[1]
    status, _, err = run("recommend", trained[0], "--items=film 3", "--ratings=4=2")
    assert "--ratings and --items exclude each other" in err


def test_data_prints_counts_and_density(run, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("userId,movieId,rating,timestamp\n001,a,3,1\n001,b,4,2\n1,a,5,3\n")
    status, out, _ = run("data", log, "--support=1")
    assert status == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[:5] == [
        "interactions 3",
        "users 2, 1 to 2 interactions each (median 1.5)",
        "items 2, 1 to 2 interactions each (median 1.5)",
        "density 75.00 %",
        "ratings 3 to 5, mean 4.000",
    ]
    assert "cold users 1 with at most 1 interactions" in lines


def test_a_run_folder_that_cannot_be_made_is_one_line(run, options, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = run("train", *options, "--run", tmp_path / "file" / "run")
    assert status == 2
    assert str(tmp_path / "file") in one_line(err)


def test_an_existing_run_folder_is_left_alone(run, options, tmp_path):
    (tmp_path / "run").mkdir()
    status, _, err = run("train", *options, "--run", tmp_path / "run")
    assert status == 2
    assert "run" in one_line(err)
    assert not list((tmp_path / "run").iterdir())


def test_a_full_disk_is_one_line_and_keeps_saved_checkpoints(run, options, tmp_path, monkeypatch):
    from metajax import checkpoint, runs

    folder, save = tmp_path / "run", checkpoint.save

    def save_until_full(where, step, state, **options):
        if step > 20:
            raise checkpoint.CheckpointError(f"cannot save step {step}: no space left")
        return save(where, step, state, **options)

    monkeypatch.setattr(checkpoint, "save", save_until_full)
    status, _, err = run("train", *options, "--no-report", "--run", folder)
    assert status == 2
    assert "cannot save step 30: no space left" in err
    monkeypatch.undo()
    assert np.asarray(runs.resumed(runs.open_run(folder)).state.step) == 20


def test_help_shows_the_options_of_the_chosen_method(run, monkeypatch, tmp_path):
    status, out, _ = run("train", "--method", "cavia", "--help")
    assert status == 0
    assert "--cavia.inner-rate" in out
    assert "--maml.inner-rate" not in out
    (tmp_path / "a.toml").write_text("method = 'reptile'\n")
    assert "--reptile.steps" in run("train", "--config", tmp_path / "a.toml", "--help")[1]
    _, out, _ = run("train", "--method=attentive_neighbours", "--help")
    shown = " ".join(out.replace("│", " ").split())
    assert "[choices: random, time, mixed] [default: random]" in shown
    assert "above 2,000 items sampled_ranking. [default: ndcg]" in shown
    shown = " ".join(run("train", "--method=reptile", "--help")[1].replace("│", " ").split())
    assert "Learning rate of the inner steps. [default: 0.002]" in shown
    monkeypatch.setenv("METAJAX_METHOD", "anil")
    assert "--anil.steps" in run("train", "--help")[1]


def test_ingest_makes_a_store_that_other_commands_read(run, small, tmp_path):
    log, store = tmp_path / "log.csv", tmp_path / "store"
    text = (small / "small.inter").read_text().replace("\t", ",")
    log.write_text(text.replace(":token", "").replace(":float", ""))
    code, out, err = run("ingest", log, f"--output={store}")
    assert code == 0, err
    assert re.search(r"[\d,]+ interactions of 40 users with 30 items in .*store, 0 MB, in", out)
    assert run("data", store)[1] == run("data", log)[1]
    assert run("ingest", log, f"--output={store}")[0] == 0
    code, _, err = run("ingest", log, f"--output={store}", "--drop=rating=1")
    assert (code, "a store of other options is here" in err) == (2, True)
    code, _, err = run("ingest", tmp_path / "none.csv", f"--output={tmp_path / 'other'}")
    assert (code, one_line(err)) == (
        2, f"metajax: {tmp_path / 'none.csv'}: no such file or folder.",
    )  # fmt: skip
    (store / "manifest.json").rename(store / "plan.json")
    code, _, err = run("train", f"--data={store}")
    assert (code, "a store that is not finished" in err) == (2, True)
