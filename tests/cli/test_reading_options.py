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


@pytest.mark.parametrize("in_file", [False, True])
def test_each_domain_of_a_transfer_may_have_its_own_options(
    in_file, loaded, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "books.txt").write_text("u|b|3,5\nu|c|2,5\n")
    (tmp_path / "films.txt").write_text("who;what;good\nu;f;4\nu;g;2\n")
    (tmp_path / "people.csv").write_text("id,age\nu,30\n")
    given = [
        "--user-column=1", "--item-column=2", "--separator=|", "--source.no-header",
        "--source.rating-column=3", "--source.scale", "1", "5", "--target.separator=;",
        "--target.rating-column=good", "--target.users=people.csv", "--source.drop", "3=9",
        "--source.drop", "3=8",
    ]  # fmt: skip
    if in_file:
        (tmp_path / "a.toml").write_text(
            "user_column = 1\nitem_column = 2\nseparator = '|'\n"
            "[source]\nheader = false\nrating_column = 3\nscale = [1, 5]\ndrop = ['3=9', '3=8']\n"
            "[target]\nseparator = ';'\nrating_column = 'good'\nusers = 'people.csv'\n"
        )
        given = ["--config=a.toml"]
    assert cli.main(["transfer", "--source=books.txt", "--target=films.txt", *given]) == 2
    # Read they are, and nothing else is wrong than the scale.
    assert "must share a scale, got (1.0, 5.0) and (2.0, 4.0)" in capsys.readouterr().err
    (one, books), (other, films) = loaded
    assert one | {"user_column": 1, "item_column": 2, "rating_column": 3} == {
        "user_column": 1,
        "item_column": 2,
        "separator": "|",
        "header": False,
        "rating_column": 3,
        "scale": (1.0, 5.0),
        "drop": ("3=9", "3=8"),
    }
    assert set(other) == {"user_column", "item_column", "separator", "rating_column", "users"}
    assert books.interactions.rating.tolist() == [3.5, 2.5]
    assert films.interactions.rating.tolist() == [4, 2]
    assert films.users.columns["age"].tolist() == ["30"]


@pytest.mark.parametrize(
    ("words", "file", "message"),
    [
        (["--source.relevant=3"], "", "--source.relevant"),
        (["--target.separatr=;"], "", "--target.separatr"),
        (["--target.duplicates=last"], "", "--target.duplicates"),
        (["--column=genres", "--source.separator=;"], "", "are about two data sets, got column"),
        (["--source=ml-100k", "--source.separator=;"], "", "ml-100k is read one way"),
        ([], "[source]\nseparatr = ';'\n", "a.toml, source: unknown setting 'separatr'; did you "),
        ([], "source = 3\n", "a.toml: source must be a table of options of reading"),
    ],
)
def test_wrong_options_of_a_domain_are_refused_in_one_line(
    words, file, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_text(file)
    domains = ["--source=x.csv", "--target=x.csv", "--config=a.toml"]
    words = [*(word for word in domains if word.partition("x.csv")[0] not in str(words)), *words]
    assert cli.main(["transfer", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_help_of_a_transfer_shows_the_options_of_both_domains_once(capsys):
    cli.main(["transfer", "--help"])
    printed = capsys.readouterr().out
    assert "--source.separator" in printed
    assert printed.count("--target.") == 1
    assert "--source.encoding" not in printed
