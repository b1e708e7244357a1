import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metajax
from metajax import runs
from metajax.registry import settings_for

ROOT = Path(metajax.__file__).parent.parent
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="the README is not installed")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_library_example_runs(ml100k):
    del ml100k  # It is in the cache by now.
    names = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), names)
    assert names["scores"].shape == (10,)
    assert np.isfinite(names["scores"]).all()
    assert float(names["metrics"]["loss"]) > 0
    exec(compile(blocks("python")[2], "README.md", "exec"), names)
    assert np.isfinite(names["by_step"]).all()
    assert names["by_step"].shape == (3,)
    # Six steps have moved what adapts, and nothing else.
    for name, layer in names["state"].params.items():
        assert not np.array_equal(names["weights"][name]["kernel"], layer["kernel"])
        np.testing.assert_array_equal(names["weights"][name]["bias"], layer["bias"])


@pytest.mark.slow
def test_the_recommendation_example_runs(ml100k, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = settings_for("maml", rank=2, width=8, embedding=4, updates=10, tasks=8)
    runs.train_run(*runs.create(tmp_path / "runs" / "ml-100k-maml", settings, ml100k))
    *before, last = blocks("python")[1].strip().splitlines()
    names = {}
    exec("\n".join(before), names)
    assert len(eval(last, names)) == 3


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
    (block,) = (block for block in blocks("python") if "DomainPair(" in block)
    *before, last = block.strip().splitlines()
    names: dict[str, Any] = {"metajax": metajax}
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


def test_the_tables_of_the_benchmarks_are_what_the_results_say():
    command = [sys.executable, ROOT / "benchmarks" / "tables.py", "--check"]
    subprocess.run(command, check=True)


def test_the_dev_group_and_the_dev_extra_are_the_same_tools():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["dependency-groups"]["dev"] == ["metajax[dev]"]
