import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import metajax
from metajax import cli, fields, registry, runs
from metajax.checkpoint import CheckpointError
from metajax.cross_domain.domains import (
    DomainPair,
    load_domains,
    with_absolute_paths,
)

USERS, ITEMS = 60, 16


def write(folder, name, rng, taste, quality, top=5):
    """A log in which everyone rated most items, and what the items are called."""
    rows = ["user_id:token\titem_id:token\trating:float"]
    for u in range(USERS):
        for i in rng.permutation(ITEMS)[:13]:
            rating = np.clip(round(3 + taste[u] + quality[i] + 0.3 * rng.normal()), 1, top)
            rows.append(f"u{u}\t{i}\t{rating}")
    path = folder / name
    path.mkdir()
    (path / f"{name}.inter").write_text("\n".join(rows) + "\n")
    rows = ["item_id:token\ttitle:token_seq\tkind:token"]
    rows += [f"{i}\t{name.title()} {i}\t{'ab'[i % 2]}" for i in range(ITEMS)]
    (path / f"{name}.item").write_text("\n".join(rows) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Two data sets of the same people, books and films."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("domains")
    taste, quality = rng.normal(size=USERS), rng.normal(size=(2, ITEMS))
    return [
        write(folder, name, rng, taste, q)
        for name, q in zip(("books", "films"), quality, strict=True)
    ]


@pytest.fixture
def run(capsys):
    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def tiny(**changes):
    options = {"rank": 1, "updates": 20, "tasks": 4, "per_dispatch": 5, "validate_every": 10}
    return registry.settings_for("informed_ridge", **options, **changes)


def test_a_transfer_recommends_without_its_data_and_refuses_damage(paths, tmp_path):
    places = [
        shutil.copytree(path, tmp_path / name) for path, name in zip(paths, "ab", strict=True)
    ]
    pair = DomainPair(source=str(places[0] / "books.inter"), target=str(places[1] / "films.inter"))
    folder = tmp_path / "run"
    runs.create(folder, tiny(), load_domains(pair, {}), pair)
    for place in places:
        shutil.rmtree(place)
    shown = {"source:Books 3": 5, "target:Films 4": 1}
    best = runs.recommend(runs.load(folder), shown, top=16)
    assert {line.title for line in best} == {f"Films {n}" for n in range(16) if n != 4}
    rng = np.random.default_rng(0)
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        content = file.read_bytes()
        for bit in rng.choice(8 * len(content), 2, replace=False) if content else ():
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            with pytest.raises((CheckpointError, ValueError), match=re.escape(file.name)):
                runs.load(folder, on_skip=lambda step, reason: None)
        file.write_bytes(content)
    assert runs.recommend(runs.load(folder), shown, top=16) == best


@pytest.mark.slow
def test_a_stopped_transfer_resumes_evaluates_and_recommends(run, paths, tmp_path):
    pair = DomainPair(source=os.path.relpath(paths[0]), target=paths[1])
    domains = load_domains(pair, {})
    folders = [tmp_path / "stopped", tmp_path / "whole"]
    rows = []
    opened, progress = runs.create(folders[0], tiny(), domains, pair)
    runs.train_run(opened, progress, on_row=rows.append, stop=lambda: len(rows) >= 3)
    status, out, err = run("transfer", "--resume", folders[0], "--quick")
    assert status == 0, err
    assert f"Resuming {folders[0]} at update 15." in out
    assert "RMSE, new to the target, protocol transfer" in out
    assert (folders[0] / "report.html").read_text().startswith("<!")

    whole, _ = runs.train_run(*runs.create(folders[1], tiny(), domains, pair))
    again = runs.resumed(runs.open_run(folders[0]))
    jax.tree.map(np.testing.assert_array_equal, again, whole)

    records = json.loads((folders[0] / "report.json").read_text())
    rmse = {(r["method"], r["k"]): r for r in records if r["metric"] == "rmse"}
    assert {k for _, k in rmse} == {0, 1, 3, 5}
    assert {"item_mean", "target_only", "linear_map", "informed_ridge"} <= {m for m, _ in rmse}
    # The users are as generous here as there.
    assert rmse["informed_ridge", 0]["no_transfer_difference_high"] < 0

    ratings = "source:Books 3=5, Films 2=4, target:5=1"
    status, out, _ = run("recommend", folders[0], "--ratings", ratings, "--top=99")
    assert status == 0
    assert len(out.splitlines()) == ITEMS - 2
    assert all(line[7:].startswith("Films ") for line in out.splitlines())
    recommender = metajax.load(folders[0])
    both = metajax.recommend(recommender, {"Books 3": 5}, top=99, source=True)
    assert len(both) == 2 * ITEMS - 1
    generous, strict = (
        metajax.recommend(recommender, {f"Books {i}": rating for i in range(8)}, top=1)[0].score
        for rating in (5, 1)
    )
    assert generous > strict + 1

    status, _, err = run("transfer", "--resume", folders[0], "--rescale")
    assert status == 2
    assert "give no others" in err
    status, _, err = run("transfer", "--resume", folders[0], "--source", paths[0])
    assert status == 2
    assert "--resume continues with the settings of" in err


@pytest.mark.slow
def test_a_transfer_is_run_on_the_command_line(run, paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text("".join(f"u{n},u{n}\n" for n in range(40)))
    words = ["transfer", "--source", paths[0], "--target", paths[1], "--quick", "--no-report"]
    status, out, err = run(
        *words, "--overlap-list=list.csv", "--informed_ridge.rank=1", "--tasks=4"
    )
    assert status == 0, err
    # 40 people in both, and twice 20 who are in one.
    assert "informed_ridge on" in out
    assert "fold 0: 27 users train, 5 validate, 8 are cold" in out
    found = runs.open_run(tmp_path / "runs" / "films-transfer")
    assert found.pair is not None
    assert found.pair.overlap_list == str(tmp_path / "list.csv")
    assert found.settings.data == paths[1]
    assert len(found.dataset.users.ids) == 80
    assert found.settings.updates == 50


def test_options_of_each_domain_are_kept_with_the_run(paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for n, (name, separator) in enumerate((("books", ";"), ("films", "|"))):
        rows = (Path(paths[n]) / f"{name}.inter").read_text().replace("\t", separator)
        (tmp_path / f"{name}.txt").write_text(rows.replace("rating:float", "w"))
    (tmp_path / "people.csv").write_text("user_id,job\nu0,cook\nu1,maid\n")
    pair = DomainPair(
        source="books.txt",
        target="films.txt",
        source_reading={"separator": ";", "rating_column": "w", "drop": ["w<0"]},
        target_reading={"separator": "|", "rating_column": 3, "users": "people.csv"},
    )
    opened, _ = runs.create(tmp_path / "run", tiny(), load_domains(pair, {}), pair)
    monkeypatch.chdir(tmp_path / "run")
    again = runs.open_run(tmp_path / "run")
    assert again.pair is not None
    assert again.pair == opened.pair
    assert again.pair.target_reading["users"] == str(tmp_path / "people.csv")
    assert "job" in again.dataset.users.columns
    with pytest.raises(ValueError, match="source_reading: unknown setting 'relevant'"):
        DomainPair(source="a", target="b", source_reading={"relevant": 3})
    with pytest.raises(ValueError, match="target_reading must be options by name, got 3"):
        DomainPair(source="a", target="b", target_reading=3)  # pyrefly: ignore


def test_one_data_set_is_split_by_a_column(tmp_path):
    pair = DomainPair(
        source="action, science", target="drama,romance", column="topics", data="synthetic"
    )
    domains = load_domains(pair, {"scale": (1, 5)})
    tokens = domains.dataset.items.columns["topics"]
    for side, others in ((0, {"drama", "romance"}), (1, {"action", "science"})):
        assert not any(others & set(t.split()) for t in tokens[domains.item_domain == side])
    path = tmp_path / "domains.json"
    path.write_text(fields.to_json(with_absolute_paths(pair)))
    assert fields.from_json(path, DomainPair, "the domains of a run") == pair
    path.write_text('{"source": 1}')
    with pytest.raises(ValueError, match="not the domains of a run"):
        fields.from_json(path, DomainPair, "the domains of a run")


def test_unmatched_data_sets_are_joined_without_a_common_user(paths):
    domains = load_domains(DomainPair(source=paths[0], target=paths[1], matched=False), {})
    assert len(domains.dataset.users.ids) == 2 * USERS


def one_line(printed):
    (line,) = [line for line in printed.splitlines() if not line.endswith(" ...")]
    return line


def test_domains_that_cannot_be_joined_are_refused_in_one_line(run, paths, tmp_path):
    rng = np.random.default_rng(1)
    ten = write(tmp_path, "ten", rng, np.zeros(USERS), np.linspace(-2, 7, ITEMS), top=10)
    log = tmp_path / "other" / "other.inter"
    log.parent.mkdir()
    log.write_text("user_id:token\titem_id:token\trating:float\n1\t1\t1\n2\t1\t5\n")
    (tmp_path / "list.csv").write_text("u1\nnobody\n")
    books, films = paths
    for words, message in (
        (["--source", books], "source and target must both be given, as data sets or"),
        (["--source", ten, "--target", films], "must share a scale, got (1.0, 10.0) and (1.0, 5"),
        (["--source", log.parent, "--target", films], "got ids like '1' and 'u0'"),
        (
            ["--source", log.parent, "--target", films, "--unmatched"],
            "must share users or a column of attributes, got the columns none and kind.",
        ),
        (
            ["--source", books, "--target", films, f"--overlap-list={tmp_path / 'list.csv'}"],
            "overlap_list must name users of the source, got 1 unknown: 'nobody'.",
        ),
        (
            ["--column=genres", "--source=a", "--target=b", "--rescale"],
            "matched, rescale and overlap_list are about two data sets, got column 'genres'",
        ),
        (
            ["--data=synthetic", "--column=genres", "--source=a", "--target=b"],
            "column must be a column of tokens, one of ['topics'], got 'genres'",
        ),
        (["--source", films, "--target", tmp_path / "x"], "no such path, nor one of the names"),
    ):
        status, _, err = run("transfer", *words, "--no-report")
        assert status == 2, err
        assert message in one_line(err)
    assert dataclasses.asdict(DomainPair(source=ten, target=films, rescale=True))["rescale"]
    joined = load_domains(DomainPair(source=ten, target=films, rescale=True), {})
    assert joined.dataset.interactions.rating.max() == 5
