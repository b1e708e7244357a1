"""`metajax graph` as a person types it."""

import pytest

from metajax import cli

KG = "head_id:token\trelation_id:token\ttail_id:token\n"
LINK = "item_id:token\tentity_id:token\n"


@pytest.fixture
def inspect(capsys, tmp_path):
    """Writes files and inspects the first; returns the exit status and what was printed."""

    def inspect(files, *options):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        first = tmp_path / next(iter(files))
        options = [str(option).replace("DIR", str(tmp_path)) for option in options]
        status = cli.main(["graph", str(first), *options])
        printed = capsys.readouterr()
        return status, printed.out, printed.err.replace(str(tmp_path), "DIR")

    return inspect


def test_a_graph_is_told_by_its_relations_and_problems(inspect):
    status, out, _ = inspect({"a.kg": KG + "film\tgenre\tfun\nfilm\tgenre\tfun\nfilm\tby\ther\n"})
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["triples", "2"]
    assert ["genre", "1", "1", "1", "1"] in lines
    assert "  - 1 of 3 triples are repeated: line 3" in out


def test_literals_are_attributes_on_request(inspect):
    file = {"a.ttl": "@prefix x: <http://x/> .\nx:a x:b x:c ; x:year 1979 .\n"}
    status, _, err = inspect(file)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("metajax: DIR/a.ttl: 1 literals where an entity is needed, the first ")
    status, out, _ = inspect(file, "--literals=attributes")
    assert status == 0
    assert ["attributes", "1"] in [line.split() for line in out.splitlines()]


def test_links_are_checked_against_the_log(inspect, small):
    files = {"a.kg": KG + "film\tgenre\tfun\n", "a.link": LINK + "0\tfilm\n5\tfun\n"}
    status, out, _ = inspect(files, "--link=DIR/a.link", f"--data={small}")
    assert status == 0
    assert "28 of 30 items are linked to no entity: '1', '10', '11', '12', '13', ..." in out
    files["a.link"] = LINK + "x\tfilm\n"
    status, _, err = inspect(files, "--link=DIR/a.link", f"--data={small}")
    assert status == 2
    assert err == "metajax: links must be of items of the log, got 1 unknown: 'x'.\n"


def test_items_are_known_by_what_stands_before_their_ids(inspect, small):
    file = {"a.ttl": "@prefix f: <http://x/film/> .\nf:3 f:like f:17 .\n"}
    status, out, _ = inspect(file, "--item-prefix=http://x/film/", f"--data={small}")
    assert status == 0
    assert ["linked", "items", "2", "to", "2", "entities"] in [
        line.split() for line in out.splitlines()
    ]
    status, _, err = inspect(file, "--item-prefix=film:")
    assert status == 2
    assert err.startswith(
        "metajax: no entity is named 'film:' and an id; there are 'http://x/film/"
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.ttl": "<a:b> <a:c>\n"}, "DIR/a.ttl, line 2, column 1: "),
        ({"a.ttl": ""}, "DIR/a.ttl: there is no triple."),
        ({"a.csv": ""}, "DIR/a.csv: the name must end in one of .kg, .tsv, .txt, .ttl, .nt."),
    ],
)
def test_a_mistake_is_one_line(inspect, files, message):
    status, out, err = inspect(files)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"metajax: {message}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ml-10k"], "ml-10k: no such path, nor one of the names ml-100k; did you mean 'ml-100k'?"),
        (["ml-100k", "--link=x"], "--link belongs to a file; ml-100k has its own links."),
    ],
)
def test_names_are_told_from_files(capsys, words, message):
    assert cli.main(["graph", *words]) == 2
    assert capsys.readouterr().err == f"metajax: {message}\n"
