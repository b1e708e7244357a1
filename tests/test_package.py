import ast
import graphlib
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import metajax

ROOT = Path(metajax.__file__).parent

# From the bottom up: every file and folder has a row of its own and imports from rows below it.
ROWS = [
    "characters",
    "files",
    "fields",
    "types",
    "parameters",
    "losses",
    "metrics",
    "gaussian",
    "steps",
    "display",
    "training",
    "storage",
    "locks",
    "checkpoint",
    "distributed",
    "cluster",
    "data",
    "networks",
    "adaptation",
    "learners",
    "baselines",
    "hybrid",
    "knowledge",
    "methods",
    "cross_domain",
    "registry",
    "evaluation",
    "search",
    "exploration",
    "report",
    "runs",
    "engine",
    "serving",
    "cli",
    "__main__",
    "__init__",
]


def test_imports_point_down():
    level = {name: n for n, name in enumerate(ROWS)}
    wrong = set()
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "metajax":
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("metajax."):
                targets = [str(node.module).split(".")[1]]
            else:
                continue
            wrong |= {
                (module, target)
                for target in targets
                if target != module and level[target] >= level[module]
            }
    assert wrong == set()


def test_no_two_files_import_each_other():
    def name(path):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    files = {name(path): path for path in ROOT.rglob("*.py")}
    # Of the whole package only what runs: its lazy names are for type checkers.
    arrows = {
        file: {
            f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in files else node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("metajax")
            for alias in node.names
        }
        for file, path in files.items()
        if file != "metajax"
    }
    assert sum(map(len, arrows.values())) > len(files)
    graphlib.TopologicalSorter(arrows).prepare()  # A circle raises, and is named.


def test_only_networks_and_methods_import_flax():
    users = {
        path.relative_to(ROOT).parts[0]
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
        if name.split(".")[0] == "flax"
    }
    assert users == {"networks", "methods", "cross_domain"}


def test_every_module_exports_sorted_names_that_exist():
    for info in pkgutil.walk_packages([str(ROOT)], prefix="metajax."):
        module = importlib.import_module(info.name)
        exported = module.__all__
        assert list(exported) == sorted(exported), info.name
        assert all(hasattr(module, name) for name in exported), info.name


def test_importing_costs_only_jax_flax_and_optax_and_touches_no_device():
    program = """
import sys
import jax, flax.linen, optax
before = set(sys.modules)
import metajax
metajax.maml, metajax.inner_loop, metajax.networks, metajax.save
added = {name.split(".")[0] for name in set(sys.modules) - before}
print(sorted(added - set(sys.stdlib_module_names)))
from jax._src import xla_bridge
print(xla_bridge.backends_are_initialized())
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.split("\n")[:2] == ["['metajax']", "False"]


def test_the_public_face_is_sorted_and_every_name_resolves():
    assert list(metajax.__all__) == sorted(metajax.__all__) == dir(metajax)
    for name in metajax.__all__:
        getattr(metajax, name)
    with pytest.raises(AttributeError, match="'metajax' has no attribute 'recomend'"):
        metajax.recomend  # noqa: B018


def test_packages_of_runs_are_loaded_on_demand():
    program = """
import sys
import metajax
print("jax" in sys.modules)
metajax.maml, metajax.inner_loop, metajax.networks, metajax.save
heavy = "baselines cli cross_domain data evaluation knowledge methods report runs".split()
print([name for name in heavy if f"metajax.{name}" in sys.modules])
print(metajax.data.Interactions.__module__, "metajax.data" in sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    lines = ["False", "[]", "metajax.data.interactions True"]
    assert run.stdout.split("\n")[:3] == lines


def resolves(name):
    """Whether the dotted name of a module, an attribute or a field exists."""
    for end in range(name.count(".") + 1, 0, -1):
        parts = name.split(".")
        if importlib.util.find_spec("metajax." + parts[0]) is None:
            return False
        try:
            found = importlib.import_module(".".join(["metajax", *parts[:end]]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if part not in getattr(found, "__dataclass_fields__", ()) and not hasattr(found, part):
                return False
            found = getattr(found, part, None)
        return True
    return False


def test_references_in_prose_resolve():
    """Of backticked dotted names, those whose first part is a file or folder of the package."""
    own = [row for row in ROWS if not row.startswith("__")]
    reference = re.compile(rf"`(?:metajax\.)?((?:{'|'.join(own)})(?:\.[A-Za-z_]\w*)+)[(`\[]")
    # A change log speaks of names as they were.
    pages = [ROOT.parent / "README.md", ROOT.parent / "benchmarks" / "README.md"]
    # Those that are generated have the docstrings, which are read themselves.
    written = ("start", "tutorials", "how_to", "explanation")
    pages += [p for part in written for p in (ROOT.parent / "docs" / part).glob("*.md")]
    found = {
        (path.relative_to(ROOT.parent).as_posix(), name)
        for path in [*ROOT.rglob("*.py"), *(ROOT.parent / "benchmarks").glob("*.py"), *pages]
        for name in reference.findall(path.read_text())
        if not name.endswith((".py", ".json", ".toml"))
    }
    assert len(found) > 50
    assert {(path, name) for path, name in found if not resolves(name)} == set()
