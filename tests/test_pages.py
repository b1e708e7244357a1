"""Every example of the documentation, executed: the cells of each page, one after the other."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import metajax

DOCS = Path(metajax.__file__).parent.parent / "docs"
PAGES = sorted(
    page.relative_to(DOCS).with_suffix("").as_posix()
    for page in DOCS.rglob("*.md")
    if "```{code-cell}" in page.read_text(encoding="utf-8") and "_build" not in page.parts
)
# One asks for eight devices, which a process can do once; the other leaves a service running.
ALONE = ("tutorials/many_processes", "tutorials/own_log")


def cells(page: str) -> list[str]:
    """The code of a page, without the tags of its cells."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    found = re.findall(r"^```\{code-cell\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"^:tags:.*\n", "", cell) for cell in found]


def execute(cell: str, names: dict[str, Any], where: str) -> Any:
    """Executes a cell, and returns the value of its last expression."""
    tree = ast.parse(cell)
    last = tree.body[-1]
    if not isinstance(last, ast.Expr):
        exec(compile(tree, where, "exec"), names)
        return None
    tree.body.pop()
    exec(compile(tree, where, "exec"), names)
    return eval(compile(ast.Expression(last.value), where, "eval"), names)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*non-interactive")
@pytest.mark.parametrize("page", [page for page in PAGES if page not in ALONE])
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(DOCS))
    names: dict[str, Any] = {"__name__": "page"}
    for number, cell in enumerate(cells(page)):
        value = execute(cell, names, f"{page}, cell {number}")
        # What a notebook does with it.
        rich = not isinstance(value, type) and hasattr(value, "_repr_html_")
        assert value._repr_html_() if rich else repr(value)
    plt.close("all")
    plt.rcdefaults()


@pytest.mark.slow
@pytest.mark.parametrize("page", ALONE)
def test_the_examples_of_a_page_run_in_a_process_of_their_own(page, tmp_path):
    program = "\n".join(cells(page))
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr


def test_there_are_pages_with_examples():
    assert set(ALONE) < set(PAGES)
    assert len(PAGES) > 15
