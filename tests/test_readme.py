import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import metajax

ROOT = Path(metajax.__file__).parent.parent
README = ROOT / "README.md"

KEY = jax.random.key(7)

pytestmark = pytest.mark.skipif(not README.exists(), reason="the README is not installed")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def run(block, names):
    exec(compile(block, "README.md", "exec"), names)


def test_the_library_examples_run(ml100k):
    del ml100k  # It is in the cache by now.
    names: dict[str, Any] = {}
    sine, recommender, *_ = blocks("python")
    (loop,) = (block for block in blocks("python") if "mj.inner_loop(" in block)
    run(sine.replace("1000)", "20)"), names)
    waves = names["sine_waves"](KEY)
    untrained = names["learner"].init(jax.random.key(0), waves)
    losses = [names["update"](s, waves)[1]["loss"] for s in (untrained, names["state"])]
    assert losses[1] < 0.95 * losses[0]
    run(recommender, names)
    assert names["scores"].shape == (10,)
    assert np.isfinite(names["scores"]).all()
    assert float(names["metrics"]["loss"]) > 0
    run(loop, names)
    assert np.isfinite(names["by_step"]).all()
    assert names["by_step"].shape == (3,)
    # Six steps have moved what adapts, and nothing else.
    for name, layer in names["state"].params.items():
        assert not np.array_equal(names["weights"][name]["kernel"], layer["kernel"])
        np.testing.assert_array_equal(names["weights"][name]["bias"], layer["bias"])


@pytest.mark.slow
def test_the_recommendation_example_runs(ml100k, tmp_path, monkeypatch):
    del ml100k
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    example = blocks("python")[2].replace("updates=50", "updates=10, rank=2")
    run(example.replace("mj.recommend(", "found = mj.recommend("), names)
    assert len(names["found"]) == 3
    assert [len(found) for found in names["lists"]] == [3, 3]
    (solver,) = (block for block in blocks("python") if "ColdStartSolver(" in block)
    run(solver, names)
    assert [title for title, _ in names["line"].reasons]
    loaded = metajax.ColdStartSolver.load("models/films")
    assert loaded.recommend({"Fargo": 4}, top=3) == names["solver"].recommend({"Fargo": 4}, top=3)


@pytest.mark.slow
def test_the_example_of_an_own_method_runs(ml100k):
    del ml100k
    names: dict[str, Any] = {}
    (own,) = (block for block in blocks("python") if "Baseline(" in block)
    run(own, names)
    table = names["table"].filter(metric="rmse", k=10)
    assert set(table["method"]) == {"my_bias", "item_user_bias", "eb_fold_in"}
    assert table["mean"].is_between(0.9, 1.2).all()


def test_the_example_of_exploration_runs():
    names: dict[str, Any] = {}
    (block,) = (block for block in blocks("python") if "exploration." in block)
    run(block, names)
    assert names["slate"].shown.all()
    assert ((names["slate"].propensity > 0) & (names["slate"].propensity <= 1)).all()
    after = names["exploration"].linear_beliefs(names["person"], names["vectors"])
    assert (after.variance < names["beliefs"].variance).all()


def test_the_knowledge_graph_examples_run(ml100k, film_graph):
    del ml100k, film_graph
    graph, links, items, live = (b for b in blocks("python") if "knowledge." in b)
    names = {}
    exec(compile(graph, "README.md", "exec"), names)
    assert len(names["entity"]) == 1682
    assert names["training"].count + names["test"].count == names["films"].count
    assert not names["knowledge"].leaked_triples(names["training"], names["test"]).any()
    quick = links.replace("width=32", "width=2, batch=8192")
    exec(compile(quick, "README.md", "exec"), names)
    assert names["row"].epoch == 2
    assert 0 < names["row"].validation < 1
    assert len(names["missing"].answers) == 10
    exec(compile(items, "README.md", "exec"), names)
    assert np.isfinite(names["ridge"].expected[names["new"]]).all()
    exec(compile(live.replace("1_000_000", "1_000"), "README.md", "exec"), names)
    assert names["scores"].shape == (2, 1682)
    assert np.isfinite(names["scores"]).all()


@pytest.mark.slow
def test_the_example_of_two_domains_runs(ml100k, tmp_path, monkeypatch):
    del ml100k  # It is in the cache by now.
    monkeypatch.chdir(tmp_path)
    (block,) = (block for block in blocks("python") if "load_domains" in block)
    *before, last = block.strip().splitlines()
    names: dict[str, Any] = {"mj": metajax}
    exec("\n".join(before), names)
    recommended = eval(last, names)
    genres = names["domains"].dataset.items
    at = [genres.ids.tolist().index(line.item_id) for line in recommended]
    assert len(at) == 3
    assert all({"Comedy", "Romance"} & set(genres.columns["genres"][i].split()) for i in at)


def test_every_link_leads_to_a_file():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README.read_text()):
        assert (ROOT / target).exists(), target


def test_the_commands_are_bash():
    main, test = blocks("bash")
    for command in (main, test):
        subprocess.run(["bash", "-n", "-c", command], check=True)
    assert main.strip().endswith(".venv/bin/metajax train")
    assert test.strip().endswith("-m pytest -q -n auto")


def test_the_tables_of_the_benchmarks_match_the_results():
    command = [sys.executable, ROOT / "benchmarks" / "tables.py", "--check"]
    subprocess.run(command, check=True)


def test_the_dev_group_and_the_dev_extra_are_the_same_tools():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["dependency-groups"]["dev"] == ["metajax[dev]"]


def test_the_map_names_every_file_and_folder_of_the_package():
    tree = next(block for block in blocks("text") if block.startswith("metajax/\n"))
    named = set(re.findall(r"^  (\S+)", tree, re.MULTILINE))
    package = ROOT / "metajax"
    there = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").exists()}
    there |= {path.name for path in package.glob("*.py")} - {"__main__.py"}
    assert named == there
