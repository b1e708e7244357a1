"""Options of reading the data, alike in every command that reads them."""

import pytest

from metajax import cli
from metajax.data import datasets

LOG = "1;a;3;x\n1;b;0;x\n1;c;4;x\n1;c;2;x\n"
FLAGS = [
    "--no-header", "--separator=;", "--user-column=1", "--item-column=2", "--rating-column", "3",
    "--drop=rating=0", "--duplicates=mean", "--scale", "1", "5", "--encoding=latin-1",
]  # fmt: skip
FILE = """
header = false
separator = ";"
user_column = 1
item_column = 2
rating_column = 3
drop = ["rating=0"]
duplicates = "mean"
scale = [1, 5]
encoding = "latin-1"
"""
NOTES = [
    "metajax: note: columns not used: '4'.",
    "metajax: note: 1 of 4 rows are dropped by rating=0.",
    "metajax: note: 1 of 3 rows repeat a pair of user and item: mean is taken.",
]


@pytest.fixture
def loaded(monkeypatch):
    """The options with which data sets are loaded; nothing is done with the data."""
    found = []
    load = datasets.load

    def loading(data, *, progress=None, **options):
        found.append((options, load(data, **options)))
        return found[-1][1]

    monkeypatch.setattr(datasets, "load", loading)
    return found


COMMANDS = (
    "data LOG",
    "train --data LOG",
    "compare --data LOG --methods item_mean",
    "transfer --source LOG --target LOG",
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("in_file", [False, True])
def test_every_command_takes_the_same_options(
    command, in_file, loaded, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log.csv"
    log.write_text(LOG)
    (tmp_path / "a.toml").write_text(FILE)
    given = ["--config=a.toml"] if in_file else FLAGS
    cli.main([*command.replace("LOG", str(log)).split(), *given])
    options, dataset = loaded[0]
    assert options.pop("user_column") in (1, "1")
    assert options.pop("item_column") in (2, "2")
    assert options.pop("rating_column") in (3, "3")
    assert options == {
        "header": False,
        "separator": ";",
        "drop": ("rating=0",),
        "duplicates": "mean",
        "scale": (1.0, 5.0),
        "encoding": "latin-1",
    }
    assert dataset.interactions.rating.tolist() == [3, 3]
    printed = capsys.readouterr().err.splitlines()
    notes = NOTES
    if command.startswith("transfer"):
        notes = [note.replace("note: ", f"note: {log}: ") for note in 2 * NOTES]
    assert [line for line in printed if "note:" in line] == notes
