import json
from typing import Any

import pytest

from metajax.files import DataError
from metajax.knowledge.extraction.texts import MOST_CHARACTERS, Text, read_texts


def test_tables_of_any_kind_are_read_alike(tmp_path):
    import polars as pl

    rows = [
        {"movie_id": "1", "title": "Alien", "plot": 'In space, "quiet".\nVery.'},
        {"movie_id": "002", "title": "Heat", "plot": "A thief"},
        {"movie_id": "3", "title": "Nothing", "plot": ""},
    ]
    frame = pl.DataFrame(rows)
    frame.write_csv(tmp_path / "a.csv")
    frame.write_csv(tmp_path / "a.tsv", separator="\t")
    frame.write_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for kind in ("csv", "tsv", "parquet", "jsonl"):
        found = read_texts(tmp_path / f"a.{kind}")
        assert found.texts == (
            Text("1", 'In space, "quiet".\nVery.', "Alien"),
            Text("002", "A thief", "Heat"),
        ), kind
        assert found.notes == ("1 of 3 items have no text",)


def test_columns_can_be_named_and_joined(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("no,what,more,called\n1,one,two,x\n2,,three,\n")
    columns: dict[str, Any] = {
        "item_column": "no",
        "text_columns": ["what", "more"],
        "title_column": "called",
    }
    assert read_texts(path, **columns).texts == (Text("1", "one\ntwo", "x"), Text("2", "three", ""))
    with pytest.raises(DataError, match="no column 'mor'; did you mean 'more'"):
        read_texts(path, **(columns | {"text_columns": ["mor"]}))
    with pytest.raises(DataError, match="no column of item ids"):
        read_texts(path)
    with pytest.raises(DataError, match="no column of texts: none is called text, description"):
        read_texts(path, item_column="no")


def test_long_texts_are_cut_and_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"id,text\n1,{'a' * (MOST_CHARACTERS + 1)}\n2,e\u0301\n")
    found = read_texts(path)
    assert len(found.texts[0].text) == MOST_CHARACTERS
    assert found.texts[1].text == "\u00e9"  # Composed.
    assert found.notes == (f"1 texts are cut to {MOST_CHARACTERS:,} characters",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,text\n1,x\n1,y\n", "line 3, column 'id': '1' is there twice"),
        ("id,text\n,x\n", "line 2, column 'id': an id must be 1 to 200 characters"),
        ("id,text\na\u202eb,x\n", "line 2, column 'id': an id must be"),
        ("id,text\n1,\n", "no item has a text."),
    ],
)
def test_a_mistake_names_the_line(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_texts(path)
    assert message in str(error.value)
