import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import metajax

ROOT = Path(metajax.__file__).parent.parent
README = ROOT / "README.md"
MAP = ROOT / "docs" / "explanation" / "architecture.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="the README is not installed")


def blocks(language, page=README):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_library_example_runs(ml100k, tmp_path, monkeypatch):
    del ml100k  # It is in the cache by now.
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), names)
    assert [title for title, _ in names["line"].reasons]
    loaded = metajax.ColdStartSolver.load("models/films")
    assert loaded.recommend({"Fargo": 4}, top=3) == names["solver"].recommend({"Fargo": 4}, top=3)
    table = names["table"].filter(metric="rmse", k=10)
    assert set(table["method"]) == {"eb_fold_in", "item_mean"}
    assert table["mean"].is_between(0.9, 1.2).all()


def test_every_link_leads_to_a_file():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README.read_text()):
        assert (ROOT / target).exists(), target


def test_the_commands_are_bash():
    main, test, docs = blocks("bash")
    for command in (main, test, docs):
        subprocess.run(["bash", "-n", "-c", command], check=True)
    assert main.strip().endswith(".venv/bin/metajax train")
    assert test.strip().endswith("-m pytest -q -n auto")
    assert docs.strip().endswith("sphinx-build -W -j 2 docs docs/_build/html")


def test_it_is_two_screens():
    assert len(README.read_text().splitlines()) <= 90


def test_the_tables_of_the_benchmarks_match_the_results():
    command = [sys.executable, ROOT / "benchmarks" / "tables.py", "--check"]
    subprocess.run(command, check=True)


def test_the_dev_group_and_the_dev_extra_are_the_same_tools():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["dependency-groups"]["dev"] == ["metajax[dev]"]


def test_the_map_names_every_file_and_folder_of_the_package():
    tree = next(block for block in blocks("text", MAP) if block.startswith("metajax/\n"))
    named = set(re.findall(r"^  (\S+)", tree, re.MULTILINE))
    package = ROOT / "metajax"
    there = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").exists()}
    there |= {path.name for path in package.glob("*.py")} - {"__main__.py"}
    assert named == there
