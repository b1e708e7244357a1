"""What the benchmarks' scripts import is named where a newcomer installs from."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))

# Packages that are imported by another name.
CALLED = {"orbax": "orbax-checkpoint"}

pytestmark = pytest.mark.skipif(not SCRIPTS, reason="the benchmarks are not installed")


def imported():
    """The packages that some script imports, its own modules and Python's apart."""
    names = set()
    for path in SCRIPTS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(str(node.module))
    packages = {name.split(".")[0] for name in names}
    packages -= {path.stem for path in SCRIPTS} | set(sys.stdlib_module_names) | {"metajax"}
    return {CALLED.get(name, name) for name in packages}


def test_the_benchmarks_extra_names_what_the_scripts_import():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    def names(requirements):
        return {re.split(r"[^\w-]", requirement)[0] for requirement in requirements} - {"metajax"}

    assert "metajax[cli]" in extras["benchmarks"]
    assert imported() <= names([*project["dependencies"], *extras["cli"], *extras["benchmarks"]])
    assert names(extras["benchmarks"]) <= imported()
    page = (ROOT / "benchmarks" / "README.md").read_text()
    assert "pip install -e '.[benchmarks]'" in page
