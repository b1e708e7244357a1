import json

import pytest

from metajax.files import DataError
from metajax.knowledge.extraction import Relation, Schema, read_schema, write_schema
from metajax.knowledge.extraction.schema import folded, is_plain, relation_of, value_of


def test_toml_and_json_of_one_layout_are_the_same_schema(tmp_path):
    toml = tmp_path / "a.toml"
    toml.write_text(
        'items = "films"\n[relations.by]\nmost = 1\naliases = ["director"]\n'
        '[relations.genre]\nvalues = ["Drama", "War"]\n'
    )
    content = {
        "items": "films",
        "relations": {
            "by": {"most": 1, "aliases": ["director"]},
            "genre": {"values": {"Drama": [], "War": []}},
        },
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    schema = read_schema(toml)
    assert schema == read_schema(tmp_path / "a.json")
    assert [relation.name for relation in schema.relations] == ["by", "genre"]
    assert dict(schema.relations[1].values) == {"Drama": (), "War": ()}


def test_a_schema_is_read_as_it_was_written(schema, tmp_path):
    hostile = Relation('a "b" = [c]\\', description="one\nline\x7f", values={'é"]': ("w w",)})
    for one in (schema, Schema((hostile, *schema.relations), "films", confirmed=False)):
        write_schema(one, tmp_path / "s.toml")
        assert read_schema(tmp_path / "s.toml") == one


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "relations must be a table"),
        ("[relations]\n", "relations must be a table"),
        ("[relation.x]\n", "unknown setting 'relation'; did you mean 'relations'?"),
        ("[relations.x]\nvalue = []\n", "'x': relation: unknown setting 'value'; did you mean"),
        ("[relations.x]\nmost = -1\n", "'x': most must be >= 0, got -1."),
        ("[relations.x]\nmost = true\n", "'x': most must be of type int, got True."),
        ("[relations.x]\nconfidence = 2\n", "'x': confidence must be 0 to 1, got 2."),
        ("[relations.x]\naliases = 'y'\n", "'x': aliases must be a list of texts."),
        ("[relations.x]\npatterns = ['by']\n", "'x': patterns must have words and one of"),
        ("[relations.x]\npatterns = ['{name}']\n", "'x': patterns must have words and one of"),
        ("[relations.x]\nvalues = {A = ['b'], C = ['B']}\n", "must not share words, got 'B' for"),
        ("[relations.x]\nvalues = ['\\u0007']\n".replace("'", '"'), "no control character"),
        ("[relations.x]\naliases = ['y']\n[relations.Y]\n", "must differ, got 'Y' for 'x' and 'Y'"),
    ],
)
def test_a_mistake_names_file_and_relation(tmp_path, text, message):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        read_schema(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    with pytest.raises(DataError, match=r"must end in \.toml or \.json"):
        read_schema(tmp_path / "s.yaml")


def test_names_are_folded():
    assert folded("O'Connor,  Flannery") == folded("flannery OCONNOR") == "flannery oconnor"
    assert folded("Björk_") == "bjork"
    assert folded("Earth, Wind, Fire") == "earth wind fire"
    assert folded("...") == ""
    assert not is_plain("a\u200bb")
    assert not is_plain("a\nb")
    assert not is_plain("x" * 201)
    assert not is_plain(" ")


def test_relations_and_values_are_mapped(schema):
    for name in ("directed_by", "Directed By", "DIRECTOR"):
        found = relation_of(schema, name)
        assert found is not None
        assert found.name == "directed_by"
    assert relation_of(schema, "produced_by") is None
    genre = relation_of(schema, "genre")
    assert genre is not None
    assert value_of(genre, "Sci-Fi") == value_of(genre, "science  fiction") == "Science fiction"
    assert value_of(genre, "Sport") is None
