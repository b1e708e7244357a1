"""Imports compared with the requirements that pyproject.toml declares."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))

# The extras whose packages a folder may import, besides those of the core.
EXTRAS_OF = dict.fromkeys(("cli", "data", "evaluation", "report"), ("cli",)) | {
    "knowledge": ("kg", "llm"),
    "cluster": ("ray",),
    "runs": ("cli", "ray"),
    "search": ("tune",),
    "serving": ("serve", "postgres"),
}
# Requirements that are imported by another name, or run and not imported.
IMPORTED_AS = {"orbax-checkpoint": "orbax", "scikit-learn": "sklearn"}
TOOLS = {"ipykernel", "openapi-python-client", "pyrefly", "pytest-xdist", "ruff"}


def names(requirements: list[str]) -> set[str]:
    """The names by which the packages of a list of requirements are imported."""
    packages = {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}
    return {IMPORTED_AS.get(name, name) for name in packages - {"metajax"}}


def imports(path: Path, *, nested: bool = True) -> set[str]:
    """The packages, of others, that a file imports; those within functions only if `nested`."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in ast.walk(tree) if nested else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    found = {name.split(".")[0] for name in found}
    return found - set(sys.stdlib_module_names) - {"metajax", "None"}


def modules() -> Iterator[tuple[str, Path]]:
    """Each module of the package, with the folder or file at the top that it belongs to."""
    for path in sorted((ROOT / "metajax").rglob("*.py")):
        yield path.relative_to(ROOT / "metajax").parts[0].removesuffix(".py"), path


CORE = names(PROJECT["dependencies"])


def test_every_import_of_the_package_is_declared_in_the_core_or_the_extra_of_its_part():
    for part, path in modules():
        own = {name for extra in EXTRAS_OF.get(part, ()) for name in names(EXTRAS[extra])}
        assert imports(path) <= CORE | own, path


def test_only_the_command_line_and_the_service_import_an_extra_before_it_is_needed():
    for part, path in modules():
        if part not in ("cli", "serving"):
            assert imports(path, nested=False) <= CORE, path


def test_every_requirement_of_the_core_and_of_an_extra_is_imported():
    used = {name for _, path in modules() for name in imports(path)}
    assert used >= CORE
    for extra in {one for its in EXTRAS_OF.values() for one in its}:
        parts = {part for part, its in EXTRAS_OF.items() if extra in its}
        found = {name for part, path in modules() if part in parts for name in imports(path)}
        assert names(EXTRAS[extra]) <= found, extra


def test_the_dev_extra_names_what_the_tests_import():
    tests = sorted((ROOT / "tests").rglob("*.py"))
    helpers = {"tests", *(path.stem for path in tests)}
    # A script that made a reference file needs more; it is not run.
    found = {n for path in tests if not path.stem.startswith("make_") for n in imports(path)}
    declared = names(EXTRAS["dev"]) - TOOLS
    parts = ("cli", "kg", "llm", "serve", "postgres", "ray", "tune")
    assert f"metajax[{','.join(parts)}]" in EXTRAS["dev"]
    extras = {name for part in parts for name in names(EXTRAS[part])}
    assert found - helpers <= CORE | declared | extras
    assert declared <= found


@pytest.mark.skipif(not SCRIPTS, reason="the benchmarks are not installed")
def test_the_benchmarks_extra_names_what_the_scripts_import():
    found = {name for path in SCRIPTS for name in imports(path)} - {path.stem for path in SCRIPTS}
    declared = names(EXTRAS["benchmarks"])
    assert "metajax[cli,ray,tune]" in EXTRAS["benchmarks"]
    assert found <= CORE | names(EXTRAS["cli"]) | declared
    assert declared <= found
    page = (ROOT / "benchmarks" / "README.md").read_text()
    assert "pip install -e '.[benchmarks]'" in page
