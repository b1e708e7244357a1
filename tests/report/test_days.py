import io

import pytest
from rich.console import Console

from metajax import report


def records(best=2.0):
    """Two policies in one start."""
    found = []
    for policy, regret in (("greedy", 3.0), ("item_thompson", best)):
        about = {"data": "made <b>", "start": "data", "policy": policy, "seeds": [0]}
        figure = {**about, "metric": "regret", "mean": regret, "users": 9}
        if policy != "greedy":
            ends = {"difference_low": best - 3.25, "difference_high": best - 2.75}
            figure |= {"reference": "greedy", "difference": best - 3, **ends}
        found.append(figure)
        found += [{**about, "curve": c, "points": [0.0, regret]} for c in ("regret", "success")]
        found.append({**about, "curve": "staying", "points": [1.0, 0.5]})
    return found


def shown(found):
    console = Console(width=80, file=io.StringIO())
    console.print(report.days_table(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_ranks_by_regret_and_marks_clear_differences():
    lines = shown(records()).splitlines()
    rows = [line.split() for line in lines if "2.00" in line or "3.00" in line]
    assert rows == [["item_thompson", "2.00+"], ["greedy", "3.00"]]
    assert "4.00-" in shown(records(4.0))
    assert "2.90 " in shown(records(2.9))


def test_the_page_tells_the_share_and_escapes_names():
    page = report.days_page(records(), facts={"rounds": 2}, notes=["One & two."])
    assert "data: item_thompson loses 33% less than greedy." in page
    assert "<b>" not in page
    assert "One &amp; two." in page
    assert page.count("<svg") == 3
    assert "\u22121.0000" in page
    unclear = report.days_page(records(2.9))
    assert "no clear difference" in unclear


def test_nothing_is_refused():
    for function in (report.days_page, report.days_table):
        with pytest.raises(ValueError, match="records must be one or more"):
            function([])
