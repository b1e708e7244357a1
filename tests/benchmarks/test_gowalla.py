import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

USERS, ITEMS = 30, 40


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("gowalla")


@pytest.fixture
def folder(tmp_path):
    """Thirty users of two kinds with 12 items each, the last four of them for the test."""
    rng = np.random.default_rng(0)
    share = np.where(np.arange(ITEMS) % 2 == np.arange(2)[:, None], 1.0, 0.1)
    share *= np.geomspace(5, 1, ITEMS)
    lines = {"train.txt": [], "test.txt": []}
    for user in range(USERS):
        own = rng.choice(ITEMS, 12, replace=False, p=share[user % 2] / share[user % 2].sum())
        lines["train.txt"].append([user, *own[:8]])
        # User 3 has no test items, and its line none.
        lines["test.txt"].append([user, *own[8:]] if user != 3 else [user])
    for name, rows in lines.items():
        text = "\n".join(" ".join(map(str, row)) for row in rows)
        (tmp_path / name).write_text(text + "\n")
    return tmp_path


def test_popularity_is_judged_as_by_numpy(script, folder, monkeypatch, capsys):
    path = folder / "found.json"
    given = [str(folder), "--methods", "popularity", "--defaults", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["gowalla.py", *given])
    kept = {"data": folder.name, "method": "item_knn", "defaults": True}
    path.write_text(json.dumps([kept, {**kept, "method": "popularity"}]))
    script.main()
    other, record = json.loads(path.read_text())
    assert other == kept
    train, test = (script.read(folder / name) for name in ("train.txt", "test.txt"))
    count = np.bincount(train.item, minlength=ITEMS)
    recall, ndcg = [], []
    for user in set(range(USERS)) - {3}:
        seen, wanted = set(train.of(user)), set(test.of(user))
        order = [i for i in np.argsort(-count, kind="stable") if i not in seen][:20]
        hits = np.array([item in wanted for item in order])
        recall.append(hits.sum() / len(wanted))
        gain = 1 / np.log2(np.arange(2, 22))
        ndcg.append((hits * gain).sum() / gain[: len(wanted)].sum())
    assert record["users"] == len(recall) == 29
    np.testing.assert_allclose(record["recall@20"], np.mean(recall), atol=1e-5)
    np.testing.assert_allclose(record["ndcg@20"], np.mean(ndcg), atol=1e-5)
    assert record["settings"] == {}
    assert "| `popularity`, default settings |" in capsys.readouterr().out


def test_settings_are_chosen_without_the_test(script, folder):
    seen, asked = script.without_ends(script.read(folder / "train.txt"))
    assert set(np.diff(seen.offsets)) == {7}
    assert [asked.of(5)[0]] == script.read(folder / "train.txt").of(5)[7:].tolist()
    first = script.of_method(folder, "item_knn", 20, False, 0)
    (folder / "test.txt").write_text("0 39\n")
    second = script.of_method(folder, "item_knn", 20, False, 0)
    kept = [[t["settings"], t["recall@20"]] for t in first["trials"]]
    assert kept == [[t["settings"], t["recall@20"]] for t in second["trials"]]
    assert len(kept) > 2
    assert max(kept, key=lambda one: one[1])[0] == second["settings"]
    assert second["users"] == 1


def test_a_method_that_the_catalogue_is_too_large_for_is_named(script, folder, monkeypatch):
    method = script.registry.method_of("ease")._replace(most_items=10)
    monkeypatch.setattr(script.registry, "method_of", lambda name: method)
    found = script.of_method(folder, "ease", 20, True, 0)
    assert found["refused"] == "method 'ease' is for at most 10 items, got 40"
    assert "at most 10 items" in script.table([{**found, "defaults": True}])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1 2\n1 2,5\n", r"train.txt:2 must hold whole numbers, got '1 2,5'"),
        ("0 1 2\n0 5\n", "train.txt:2 must be of another user, got 0 twice"),
        ("0 1 2 1\n", "train.txt:1 must name an item once"),
    ],
)
def test_a_broken_line_is_named(script, tmp_path, text, message):
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        script.read(tmp_path / "train.txt")
