"""The documentation: what is generated covers the code, and pages hold together.

Building the pages executes their examples: `sphinx-build -W docs docs/_build/html`.
"""

import ast
import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

import metajax
from metajax import registry
from metajax.serving.app import OPERATIONS
from tests.test_requirements import CORE, EXTRAS, names

ROOT = Path(metajax.__file__).parent.parent
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the documentation is not installed")

PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)


@pytest.fixture(scope="module")
def pages():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        yield importlib.import_module("reference_pages")


@pytest.fixture(scope="module")
def entries(pages):
    return pages.entries()


def cells(page):
    """The code of a page."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```\{code-cell\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"^:tags:.*\n", "", cell) for cell in found]


def test_every_public_name_is_documented_once(entries):
    missing = [f"{e.module}.{e.name}" for e in entries if not e.text.strip()]
    assert missing == []
    places = [(e.module, e.name) for e in entries]
    assert len(places) == len(set(places)) > 700


def test_every_exported_name_is_on_a_page(pages, entries):
    known = {(e.module.split(".")[1], e.name) for e in entries}
    values = {id(getattr(importlib.import_module(e.module), e.name)) for e in entries}
    for module_name in pages.modules()[1:]:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            found = getattr(module, name)
            here = (module_name.split(".")[1], name) in known or id(found) in values
            assert here or found.__name__.startswith("metajax."), f"{module_name}.{name}"
    written = "".join(pages.api_page(part, entries) for part in pages.parts())
    for entry in entries:
        assert f":: {entry.module}.{entry.name}\n" in written


def test_every_method_option_and_operation_is_in_the_reference(pages):
    settings = pages.method_pages()["settings"]
    for name in (*registry.names(), *registry.baseline_names()):
        assert f"### {name}\n" in settings
    assert "| `inner_rate` | float | `" in settings
    # A setting without a meaning would be an empty last column.
    assert not re.search(r"\|\s*\|$", settings, re.MULTILINE)
    page, document = pages.openapi_page()
    assert '"openapi": "3.1.0"' in document
    for operation in OPERATIONS:
        assert f"## {operation.method} `{operation.path}`" in page


def test_commands_are_described_from_the_code(pages):
    found = pages.command_pages()
    files = {p.stem for p in (ROOT / "metajax" / "cli").glob("*.py")}
    assert set(found) == files - {
        "__init__", "app", "console", "extraction", "signals", "sources",
    }  # fmt: skip
    assert "--judge-users" in found["train"]
    assert "--score" in found["graph"]


def test_docstrings_become_legible_restructured_text(pages):
    lines = [
        "Sum of *all* |x| and names_ `a_`, as `maml`.", "", "    y = x W", "",
        "Example:", "    >>> 2 ** 3", "    *8*", "", "    `long", "    name` *here*",
    ]  # fmt: skip
    assert pages.restructured(lines, {"maml": "metajax.learners.maml"}) == [
        "Sum of \\*all\\* \\|x\\| and names\\_ ``a_``, as :py:obj:`maml <metajax.learners.maml>`.",
        "",
        "::",
        "",
        "    y = x W",
        "",
        "Example:",
        "    >>> 2 ** 3",
        "    *8*",
        "",
        "    ``long",
        "    name`` \\*here\\*",
    ]


def test_code_on_pages_is_python_and_imports_what_the_extra_declares():
    own = {p.stem for p in DOCS.glob("*.py")} | {"metajax"}
    extra = names(EXTRAS["docs"]) | names([*EXTRAS["cli"], *EXTRAS["kg"], *EXTRAS["serve"]])
    # Comes with MyST-NB.
    allowed = CORE | extra | own | {"IPython"} | set(sys.stdlib_module_names)
    executed = [page for page in PAGES if cells(page)]
    assert len(executed) > 15
    for page in executed:
        assert page.read_text().startswith("---\nfile_format: mystnb\n"), page
        for cell in cells(page):
            for node in ast.walk(ast.parse(cell)):
                found = []
                if isinstance(node, ast.Import):
                    found = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    found = [str(node.module)]
                assert {name.split(".")[0] for name in found} <= allowed, page


def test_every_setting_on_a_page_of_commands_exists():
    commands = {p.stem for p in (ROOT / "metajax" / "cli").glob("*.py")}
    for page in [*PAGES, ROOT / "README.md"]:
        for name in re.findall(r"^(?:\.venv/bin/)?metajax (\w+)", page.read_text(), re.MULTILINE):
            assert name in commands, (page, name)


def test_a_page_that_loads_something_is_found(pages):
    offline = importlib.import_module("offline")
    assert offline.remote('<script src="https://cdn.example/x.js"></script>')
    assert offline.remote('<link rel="stylesheet" href="//fonts.example/x.css" />')
    assert not offline.remote('<a href="https://example.org">link</a><script src="_static/x.js">')


def test_the_version_that_is_cited_is_the_project_s():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"Version {version}" in (DOCS / "how_to" / "cite.md").read_text()
