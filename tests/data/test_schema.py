import json

import numpy as np
import pytest

from metajax.data import schema
from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import from_columns
from metajax.data.memory import available_memory
from metajax.data.schema import (
    Field,
    Schema,
    encode,
    encode_rows,
    encoded,
    fit_schema,
    from_json,
    to_json,
    wide_columns,
)

TABLE = Table(
    ids=np.array(["1", "2", "3", "4"]),
    columns={
        "age": np.array(["20", "40", "", "90"]),
        "job": np.array(["cook", "cook", "judge", "pilot"]),
        "tags": np.array(["x y", "x", "", "z y"]),
        "title": np.array(["A", "B", "C", "D"]),
    },
    kinds={"age": "numeric", "job": "categorical", "tags": "tokens", "title": "text"},
)
TRAINING = np.array([0, 1, 2])
SCHEMA = Schema(
    (
        Field("age", "numeric", mean=30.0, scale=10.0),
        Field("job", "categorical", ("cook",)),
        Field("tags", "tokens", ("x", "y")),
        Field("title", "text"),
    )
)


def test_a_schema_learns_from_the_given_rows_only():
    table = TABLE._replace(
        columns={**TABLE.columns, "tags": np.array(["x y", "x", "y w w", "z y"])}
    )
    assert fit_schema(table, TRAINING, min_count=2) == SCHEMA
    changed = {name: column.copy() for name, column in table.columns.items()}
    for column in changed.values():
        column[3] = "7"
    assert fit_schema(table._replace(columns=changed), TRAINING, min_count=2) == SCHEMA


def test_each_kind_is_encoded_by_its_rule():
    expected = [
        # age, missing; unknown, cook; unknown, x, y
        [-1, 0, 0, 1, 0, 1, 1],
        [1, 0, 0, 1, 0, 1, 0],
        [0, 1, 1, 0, 0, 0, 0],
        [6, 0, 1, 0, 1, 0, 1],
    ]
    encoded = encode(SCHEMA, TABLE)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, expected)
    assert SCHEMA.width == 7
    assert SCHEMA.columns == (
        "age",
        "age=<missing>",
        "job=<unknown>",
        "job=cook",
        "tags=<unknown>",
        "tags=x",
        "tags=y",
    )


def test_raw_rows_are_encoded_as_the_table_is():
    rows = [
        {"age": 20, "job": "cook", "tags": ["x", "y"], "title": "A"},
        {"age": "40", "job": "cook", "tags": "x"},
        {"job": "judge", "tags": None},
        {"age": 90.0, "job": "pilot", "tags": ("z", "y")},
    ]
    np.testing.assert_array_equal(encode_rows(SCHEMA, rows), encode(SCHEMA, TABLE))


def test_missing_values_have_their_own_columns():
    np.testing.assert_array_equal(encode_rows(SCHEMA, [{}]), [[0, 1, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(
        encode_rows(SCHEMA, [{"age": float("nan"), "job": "", "tags": []}]),
        encode_rows(SCHEMA, [{}]),
    )


def test_no_rows_are_accepted():
    assert encode_rows(SCHEMA, []).shape == (0, 7)
    assert fit_schema(TABLE, np.array([], int)).width == 2 + 1 + 1


def test_numbers_that_do_not_vary_are_not_blown_up():
    table = Table(np.array(list("abc")), {"n": np.array(["0.1"] * 3)}, {"n": "numeric"})
    assert fit_schema(table, np.arange(3)).fields[0].scale == 1.0


def test_a_schema_survives_json():
    assert from_json(to_json(SCHEMA)) == SCHEMA


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        ({"jobb": "cook"}, KeyError, "no feature 'jobb'; did you mean 'job'"),
        ({"age": "old"}, ValueError, "age must be a number, got 'old'"),
        ({"age": True}, ValueError, "age must be a number, got True"),
        ({"age": "inf"}, ValueError, "age must be a number, got 'inf'"),
        ({"job": ["cook"]}, ValueError, "job must be one category"),
        ({"tags": 3}, ValueError, "tags must be a list of tokens"),
    ],
)
def test_a_row_that_does_not_fit_is_named(row, error, message):
    with pytest.raises(error, match=message):
        encode_rows(SCHEMA, [row])


def test_of_very_many_values_the_most_frequent_are_encoded(monkeypatch):
    monkeypatch.setattr(schema, "_MOST_CATEGORIES", 2)
    jobs = np.array(["d", "c", "b", "c", "b", "a", "d", "c"])
    tags = np.array(["x", "x y", "z y", "y", "", "", "", ""])
    table = Table(np.arange(8).astype(str), {"job": jobs, "tags": tags},
                  {"job": "categorical", "tags": "tokens"})  # fmt: skip
    fitted = fit_schema(table, np.arange(8), min_count=1)
    # Of b and d, which are equally frequent, the first.
    assert [field.vocabulary for field in fitted.fields] == [("b", "c"), ("x", "y")]
    assert encode(fitted, table)[:3].tolist() == [[1, 0, 0, 0, 1, 0], [0, 0, 1, 0, 1, 1],
                                                  [0, 1, 0, 1, 0, 1]]  # fmt: skip
    empty = Table(np.array(["0"]), {}, {})
    log = from_columns(
        np.array([0]), np.array([0]), None, None, user_ids=table.ids, item_ids=empty.ids
    )
    assert wide_columns(Dataset("x", log, table, empty, None)) == [
        "job of users has 4 values: the 2 most frequent of training are told apart, the others "
        "are one",
        "tags of users has 3 values: the 2 most frequent of training are told apart, the others "
        "are one",
    ]


@pytest.mark.slow
def test_ten_thousand_towns_of_a_hundred_thousand_users_fit_in_memory():
    towns = np.array([f"town{n % 10_000}" for n in range(100_000)])
    table = Table(np.arange(100_000).astype(str), {"town": towns}, {"town": "categorical"})
    fitted = fit_schema(table, np.arange(100_000))
    assert fitted.width == 1001
    assert encode(fitted, table).sum(axis=1).tolist() == [1.0] * 100_000


def test_a_lone_mapping_is_refused():
    with pytest.raises(TypeError, match="sequence of mappings"):
        encode_rows(SCHEMA, {"age": 3})  # pyrefly: ignore


def test_a_table_without_a_column_is_refused():
    with pytest.raises(KeyError, match="no column 'age'; found job"):
        encode(SCHEMA, TABLE._replace(columns={"job": TABLE.columns["job"]}))


def _json(**changes) -> str:
    field = {"name": "age", "kind": "numeric", "vocabulary": [], "mean": 0.0, "scale": 1.0}
    return json.dumps({"metajax_schema": 1, "fields": [{**field, **changes}]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a schema: Expecting"),
        ("[]", '"metajax_schema" must be 1'),
        ('{"metajax_schema": 2, "fields": []}', '"metajax_schema" must be 1'),
        ('{"metajax_schema": 1, "fields": 3}', 'a list "fields"'),
        ('{"metajax_schema": 1, "fields": [3]}', "field 0 must be an object"),
        (_json(more=1), "field 0 must hold kind, mean"),
        (_json(name=3), "must have a text as name"),
        (_json(kind="vector"), "must be of kind numeric, "),
        (_json(vocabulary=[1]), "list of texts as vocabulary"),
        (_json(vocabulary=["a", "a"]), "must not repeat"),
        (_json(mean=float("nan")), "finite mean and scale"),
        (_json(scale="1"), "finite mean and scale"),
        (_json(scale=0), "scale > 0"),
        (
            json.dumps({"metajax_schema": 1, "fields": json.loads(_json())["fields"] * 2}),
            "two fields share a name",
        ),
    ],
)
def test_anything_else_is_no_schema(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        from_json(text)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_into_memory_is_refused_with_what_takes_it(monkeypatch):
    ids = np.array([f"{n:02}" for n in range(60)])
    city = {"city": np.array([f"city{n % 12}" for n in range(60)])}
    users = Table(ids, city, {"city": "categorical"})
    log = from_columns(np.arange(60), np.zeros(60, int), user_ids=ids, item_ids=ids[:1])
    dataset = Dataset("log", log, users, Table(ids[:1], {}, {}), None)
    need = 60 * 13 * 4 + 60 * 48

    def encode_with(free):
        monkeypatch.setattr(schema, "available_memory", lambda: free)
        return encoded(dataset, log, log.users)[2]

    assert encode_with(None).user_features.shape == encode_with(need).user_features.shape
    text = (
        r"log: the training set takes about 6e-06 GB of memory, and 5\.99e-06 GB are free: leave "
    )
    with pytest.raises(
        ValueError, match=text + r"out 'city' of users \(13 columns for 60\), which"
    ):
        encode_with(need - 10)
    assert (available_memory() or 2**30) > 2**20
