import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from metajax import checkpoint, locks, runs, storage
from metajax.checkpoint import CheckpointError
from metajax.data.datasets import load
from metajax.locks import LockedError
from metajax.methods import Settings
from metajax.registry import settings_for, with_changes
from metajax.runs import last_good
from metajax.runs.folder import write_report
from metajax.runs.recommendation import recommend, recommend_batch
from metajax.training import DivergedError


@pytest.fixture(scope="module")
def judged(trained, tmp_path_factory):
    """A finished run with a report, not to be written to."""
    folder = shutil.copytree(trained[0], tmp_path_factory.mktemp("judged") / "run")
    write_report(folder, {"report.json": "[]", "report.html": "<!doctype html>"})
    return folder


@pytest.fixture
def noted(monkeypatch):
    """The names and paths of calls that rename something, or force it to the disk, in order."""
    made, fsync, rename = [], os.fsync, os.rename

    def noted_fsync(descriptor):
        made.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def noted_rename(source, target):
        made.append(("rename", source))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    return made


def flips(files, places=4):
    """Flips a bit at some places of each file, one at a time; yields the file."""
    rng = np.random.default_rng(0)
    for file in files:
        content = file.read_bytes()
        for bit in rng.choice(8 * len(content), min(places, 8 * len(content)), replace=False):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            yield file
        file.write_bytes(content)


def rewrite(folder, name, text):
    """Changes a file of a run as another version might have written it, digests included."""
    (folder / name).write_text(text)
    for manifest in folder.glob("checkpoints/*/manifest.json"):
        content = json.loads(manifest.read_text())
        del content["digest"]
        content["files"][name] = list(storage.digest_of(text))
        manifest.write_bytes(checkpoint._manifest_of(content, checkpoint._digest(content)))


def load_quietly(folder):
    return runs.load(folder, on_skip=lambda step, reason: None)


def resume(folder):
    run = runs.open_run(folder)
    return runs.train_run(run, runs.resumed(run, on_skip=lambda step, reason: None))[0]


def assert_same_bits(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


def test_a_run_that_was_stopped_continues_to_the_same_bits(begin_run, tmp_path, quick, trained):
    folder, undisturbed = trained
    run, progress = begin_run(tmp_path / "stopped", quick)
    rows = []
    # After 15 updates: between two validations.
    progress, finished = runs.train_run(
        run, progress, on_row=rows.append, stop=lambda: len(rows) >= 3
    )
    assert not finished
    assert int(progress.state.step) == 15
    assert checkpoint.steps(tmp_path / "stopped" / "checkpoints") == [0, 10, 15]
    again = runs.open_run(tmp_path / "stopped")
    resumed, finished = runs.train_run(again, runs.resumed(again))
    assert finished
    assert_same_bits(resumed, undisturbed)
    for name in ("metrics.jsonl", "settings.json", "schema.json", "data.json"):
        assert (tmp_path / "stopped" / name).read_text() == (folder / name).read_text()


def test_train_creates_a_run_and_resumes_it_with_the_same_settings(tmp_path, quick, trained):
    folder, rows = tmp_path / "run", []
    runs.train(folder, quick, on_row=rows.append, stop=lambda: len(rows) >= 3)
    assert [row.step for row in rows] == [5, 10, 15]
    recommender = runs.train(folder, quick)
    assert_same_bits(recommender.params, trained[1].best)
    assert_same_bits(runs.load(folder).params, trained[1].best)
    with pytest.raises(ValueError, match="the run was begun with other settings"):
        runs.train(folder, dataclasses.replace(quick, seed=1))
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="no run is here"):
        runs.train(tmp_path / "other", quick)


def test_metrics_written_after_the_checkpoint_are_cut(tmp_path, trained):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    shutil.rmtree(folder / "checkpoints" / "00000040")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 45, "lo')
    run = runs.open_run(folder)
    progress, _ = runs.train_run(run, runs.resumed(run))
    assert_same_bits(progress, trained[1])
    assert (folder / "metrics.jsonl").read_text() == (trained[0] / "metrics.jsonl").read_text()


def test_the_metrics_are_json_lines(trained):
    lines = (trained[0] / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == list(range(5, 45, 5))
    assert [row["step"] for row in rows if row["validation"] is not None] == [10, 20, 30, 40]


def test_a_damaged_checkpoint_is_reported_and_the_one_before_taken(tmp_path, trained):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    files = [p for p in (folder / "checkpoints" / "00000040").rglob("*") if p.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    skipped = []
    run = runs.open_run(folder)
    progress = runs.resumed(run, on_skip=lambda step, reason: skipped.append(step))
    assert (skipped, int(progress.state.step)) == ([40], 30)


def test_an_empty_checkpoint_folder_is_refused_in_one_line(tmp_path, trained):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="checkpoints"):
        runs.load(folder)


def test_data_that_changed_are_refused(begin_run, tmp_path, small, quick):
    data = shutil.copytree(small, tmp_path / "small")
    settings = dataclasses.replace(quick, data=str(data))
    begin_run(tmp_path / "run", settings)
    log = data / "small.inter"
    rows = log.read_text().splitlines()
    log.write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(ValueError, match="have changed since"):
        runs.open_run(tmp_path / "run")


@pytest.mark.parametrize("name", ["small.user", "small.item"])
def test_attributes_that_changed_are_refused(begin_run, tmp_path, small, quick, name):
    data = shutil.copytree(small, tmp_path / "small")
    begin_run(tmp_path / "run", dataclasses.replace(quick, data=str(data)))
    head, one, two, *rest = (data / name).read_text().splitlines()
    ids = one.split("\t")[0], two.split("\t")[0]
    swapped = ["\t".join([ids[0], *two.split("\t")[1:]]), "\t".join([ids[1], *one.split("\t")[1:]])]
    (data / name).write_text("\n".join([head, *swapped, *rest]) + "\n")
    with pytest.raises(ValueError, match="have changed since"):
        runs.open_run(tmp_path / "run")


def test_a_run_can_be_resumed_before_its_first_validation(begin_run, tmp_path, quick, trained):
    begin_run(tmp_path / "run", quick)
    run = runs.open_run(tmp_path / "run")
    progress, _ = runs.train_run(run, runs.resumed(run))
    assert_same_bits(progress, trained[1])


def test_a_run_is_found_from_anywhere(begin_run, tmp_path, small, quick, monkeypatch):
    monkeypatch.chdir(small.parent)
    begin_run(tmp_path / "run", dataclasses.replace(quick, data=small.name))
    monkeypatch.chdir(tmp_path)
    assert runs.load(tmp_path / "run").catalogue.ids.shape == (30,)


def test_a_flipped_bit_in_any_file_is_refused_and_the_file_named(judged, tmp_path):
    folder = shutil.copytree(judged, tmp_path / "run")
    for step in ("00000020", "00000030"):
        shutil.rmtree(folder / "checkpoints" / step)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"settings.json", "catalogue.json", "metrics.jsonl", "report.html", "arrays.bin"} <= {
        path.name for path in files
    }
    for file in flips(files):
        # Or the file whose digest is damaged.
        named = "report" if file.name == "report.sha256" else re.escape(file.name)
        for use in (load_quietly, resume) if named[:6] != "report" else (load_quietly,):
            with pytest.raises((CheckpointError, ValueError), match=named):
                use(folder)
    assert_same_bits(runs.load(folder).params, runs.load(judged).params)


@pytest.mark.parametrize("name", ["settings.json", "schema.json", "catalogue.json", "data.json"])
def test_a_missing_file_of_a_run_is_named(tmp_path, trained, name):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    (folder / name).unlink()
    for use in (runs.load, runs.open_run):
        with pytest.raises(ValueError, match=rf"{name}: is missing"):
            use(folder)


def test_settings_that_no_longer_fit_the_checkpoint_are_named(tmp_path, trained):
    folder = shutil.copytree(trained[0], tmp_path / "run")
    text = (folder / "settings.json").read_text()
    rewrite(folder, "settings.json", text.replace('"rank": 2', '"rank": 3'))
    with pytest.raises(ValueError, match=r"settings\.json: do not fit the checkpoint"):
        runs.load(folder)


def test_a_run_recommends_without_its_data(begin_run, tmp_path, small, quick, trained):
    data = shutil.copytree(small, tmp_path / "small")
    run, progress = begin_run(tmp_path / "run", dataclasses.replace(quick, data=str(data)))
    runs.train_run(run, progress)
    with (data / "small.inter").open("a") as file:
        file.write("40\t29\t5\t1000\n")
    with pytest.raises(ValueError, match="the data have changed since"):
        runs.open_run(tmp_path / "run")
    shown = {"Film 3": 5, "Film 4": 1}, {"age": 30, "gender": "F"}
    found = recommend(runs.load(tmp_path / "run"), *shown)
    shutil.rmtree(data)
    assert recommend(runs.load(tmp_path / "run"), *shown) == found
    assert found == recommend(runs.load(trained[0]), *shown)


def test_everything_is_on_the_disk_before_what_refers_to_it(begin_run, tmp_path, quick, noted):
    """A power failure loses what was not synced: whatever is left must be a run."""
    run, progress = begin_run(tmp_path / "runs" / "run", quick)
    place = tmp_path / "runs" / "run.tmp"
    made = noted.index(("rename", place))
    for file in run.folder.rglob("*"):
        if file.is_file():
            before = noted[: noted.index(("rename", place))]
            assert any(
                (name == "fsync" and path.parent == place / file.relative_to(run.folder).parent)
                or (name == "fsync" and path.name.startswith(file.name))
                for name, path in before
            ), file
    assert noted[made + 1] == ("fsync", tmp_path / "runs")
    assert ("fsync", tmp_path) in noted[:made]
    del noted[:]
    runs.train_run(run, progress, stop=lambda: True)
    metrics = noted.index(("fsync", run.folder / "metrics.jsonl"))
    manifest = noted.index(("fsync", run.folder / "checkpoints" / "00000005.tmp" / "manifest.json"))
    published = noted.index(("rename", run.folder / "checkpoints" / "00000005.tmp"))
    assert metrics < manifest < published
    assert noted[published + 1] == ("fsync", run.folder / "checkpoints")


def test_a_run_that_another_process_trains_is_refused(begin_run, tmp_path, quick, trained):
    run, progress = begin_run(tmp_path / "run", quick)
    with (
        locks.locked(tmp_path / "run"),
        pytest.raises(LockedError, match=rf"run: in use by process {os.getpid()} on "),
    ):
        runs.train_run(run, progress)
    progress, _ = runs.train_run(run, progress)
    assert_same_bits(progress, trained[1])


def test_starts_with_one_default_name_get_names_of_their_own(tmp_path, quick, small):
    name, dataset = tmp_path / "runs" / "small-maml", load(str(small))
    with (
        runs.claim(name, numbered=True) as one,
        runs.claim(name, numbered=True) as two,
        pytest.raises(LockedError, match=r"small-maml\.tmp: in use by process"),
        runs.claim(name),
    ):
        pass
    assert [one.folder.name, two.folder.name] == ["small-maml", "small-maml-2"]
    assert not list(tmp_path.iterdir())
    with runs.claim(name, numbered=True) as one:
        runs.create(one, quick, dataset)
    with runs.claim(name, numbered=True) as two:
        assert two.folder.name == "small-maml-2"
    with pytest.raises(FileExistsError), runs.claim(name):
        pass
    assert [path.name for path in name.parent.iterdir()] == ["small-maml"]
    assert not (name / "lock").exists()


def test_a_folder_that_was_left_half_made_is_made_anew(begin_run, tmp_path, quick, trained):
    half = tmp_path / "run.tmp"
    (half / "checkpoints").mkdir(parents=True)
    (half / "settings.json").write_text("{")
    (half / "lock").write_text("")
    with pytest.raises(ValueError, match="run: no run is here"):
        runs.open_run(tmp_path / "run")
    progress, _ = runs.train_run(*begin_run(tmp_path / "run", quick))
    assert_same_bits(progress, trained[1])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_resumed_run_drops_what_comes_after_its_checkpoint(tmp_path, trained):
    """Also where it is stopped at once: the metrics fit the checkpoint that is then the last."""
    folder = shutil.copytree(trained[0], tmp_path / "run")
    run = runs.open_run(folder)
    _, progress = checkpoint.restore(folder / "checkpoints", run.progress_like(), step=30)
    (folder / "settings.json.7.tmp").write_text("")
    with pytest.raises(KeyboardInterrupt):
        runs.train_run(run, progress, stop=raising(KeyboardInterrupt))
    assert checkpoint.steps(folder / "checkpoints") == [20, 30]
    assert not list(folder.glob("*.tmp"))
    assert_same_bits(resume(folder), trained[1])
    assert (folder / "metrics.jsonl").read_text() == (trained[0] / "metrics.jsonl").read_text()


def raising(error):
    def call():
        raise error

    return call


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([f"u{u},i,{1 + u % 5}" for u in range(20)], "two items, got 1"),
        ([f"u{u},i{u % 3},{1 + u % 5}" for u in range(9)], "10 users with interactions, got 9"),
    ],
)
def test_data_that_cannot_be_learned_from_are_refused_first(begin_run, tmp_path, rows, words):
    log = tmp_path / "log.csv"
    log.write_text("\n".join(["user,item,rating", *rows]) + "\n")
    with pytest.raises(ValueError, match=f"training needs {words}: metajax fit takes a closed"):
        begin_run(tmp_path / "run", Settings(data=str(log)))
    assert not (tmp_path / "run").exists()


def test_settings_that_name_other_data_are_refused_there_and_then(tmp_path, quick, small):
    for chosen, data, words in (
        (quick, load("synthetic"), r"settings must name the data that are given, got data='/.*/sm"),
        (quick, load(str(small), scale=(1, 5)), r"were loaded, scale \(1, 5\), got None"),
        (
            dataclasses.replace(quick, drop=("rating=1",)),
            load(small),
            r"were loaded, drop None, got \('rating=1',\)",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            runs.create(tmp_path / "run", chosen, data)
        assert not (tmp_path / "run").exists()
    same = dataclasses.replace(quick, scale=(1.0, 5.0))
    runs.create(tmp_path / "run", same, load(small, scale=(1, 5)))


def test_a_run_is_never_overwritten(begin_run, trained, quick):
    with pytest.raises(FileExistsError):
        begin_run(trained[0], quick)


def test_a_method_that_needs_ratings_is_refused_before_a_folder_is_made(begin_run, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user,item\n" + "".join(f"u{u},i{i}\n" for u in range(20) for i in range(3)))
    with pytest.raises(ValueError, match=r"method 'bayesian_ridge' needs ratings, and .*log\.csv"):
        begin_run(tmp_path / "run", settings_for("bayesian_ridge", data=str(log)))
    assert not (tmp_path / "run").exists()


def test_an_order_that_nobody_can_be_judged_by_is_refused_first(tmp_path):
    log = tmp_path / "log.csv"
    rows = [f"u{u},i{(u + i) % 7},{1 + i % 2}\n" for u in range(20) for i in range(4)]
    log.write_text("user,item,rating\n" + "".join(rows))
    chosen = settings_for("attentive_neighbours", data=str(log), scale=(1.0, 9.0))
    dataset = load(str(log), **chosen.reading())
    with pytest.raises(ValueError, match="no label reaches 7, three quarters up the scale 1 to 9"):
        runs.create(tmp_path / "run", chosen, dataset)
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_keeps_its_checkpoints(begin_run, tmp_path, quick):
    wild = with_changes(quick, inner_rate=3.0, steps=6, rate=0.5, clip=1e9)
    run, progress = begin_run(tmp_path / "run", wild)
    with pytest.raises(DivergedError, match=r"the meta-loss became .* at update"):
        runs.train_run(run, progress)
    assert last_good(tmp_path / "run").startswith("The last good checkpoint is of update 0")


def test_a_loaded_run_recommends(trained):
    recommender = runs.load(trained[0])
    best = recommend(recommender, {"Film 3": 5, "Film 4": 1}, {"age": 30}, top=3)
    assert len(best) == 3
    assert not {"Film 3", "Film 4"} & {line.title for line in best}


def test_a_loaded_run_recommends_to_many_users_as_to_each(trained):
    recommender = runs.load(trained[0])
    ratings = [{f"Film {n + i}": 1 + (n + i) % 5 for i in range(n)} for n in range(7)]
    users = [{"age": 20 + n, "gender": "FM"[n % 2]} for n in range(7)]
    lists = recommend_batch(recommender, ratings, users, top=30)
    for n, found in enumerate(lists):
        # Ties and rounding may order differently, so scores are compared by item.
        alone = recommend(recommender, ratings[n], users[n], top=30)
        scores = {line.item_id: line.score for line in found}
        assert scores.keys() == {line.item_id for line in alone}
        for line in alone:
            assert scores[line.item_id] == pytest.approx(line.score, rel=1e-6)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, quick, trained):
    """SIGKILL at a random moment; nothing can be finished or saved then."""
    folder = tmp_path / "killed"
    shared = dataclasses.asdict(quick)
    own = {f"{quick.method}.{name}": value for name, value in shared.pop("options").items()}
    arguments = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in {**shared, **own}.items()
        if value is not None and not isinstance(value, bool | tuple)
    ]
    command = [sys.executable, "-m", "metajax", "train", "--no-report", f"--run={folder}"]
    process = subprocess.Popen([*command, *arguments], env={**os.environ, "JAX_PLATFORMS": "cpu"})
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "00000010").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    run = runs.open_run(folder)
    progress, _ = runs.train_run(run, runs.resumed(run))
    assert_same_bits(progress, trained[1])
