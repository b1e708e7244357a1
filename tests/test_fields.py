"""Fields of settings: names, types and JSON of any frozen dataclass."""

import dataclasses

import pytest

from metajax import fields
from metajax.cross_domain import DomainPair


@dataclasses.dataclass(frozen=True)
class Toy:
    """Settings of nothing."""

    width: int = fields.bounded(3, least=1)
    names: tuple[str, ...] = ()

    def __post_init__(self):
        """Refuses values out of range."""
        fields.check_fields(self)


def test_a_dataclass_survives_json(tmp_path):
    path, toy = tmp_path / "toy.json", Toy(4, ("a", "b"))
    path.write_text(fields.to_json(toy))
    assert fields.from_json(path, Toy, "a toy") == toy


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"widht": 4, "names": []}', "Toy: unknown setting 'widht'; did you mean 'width'?"),
        ('{"width": 4}', "there is no names."),
        ('{"width": 0, "names": []}', "width must be >= 1, got 0."),
        ('{"width": "4", "names": []}', "width must be of type int, got '4'."),
        ("[1]", "it must be an object."),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path, text, rule):
    path = tmp_path / "toy.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="not a toy") as error:
        fields.from_json(path, Toy, "a toy")
    assert str(error.value) == f"{path}: not a toy: {rule}"


def test_the_nearest_names_end_an_error():
    known = ["maml", "anil"]
    assert fields.suggestion("mmal", known) == "; did you mean 'maml'?"
    assert fields.suggestion("mmal", known, most=2) == "; nearest are 'maml'."
    assert fields.suggestion("x", known) == "."
    assert fields.suggestion("x", known, listed=True) == "; known are maml, anil."
    assert fields.suggestion("mmal", {"maml": "MAML"}) == "; did you mean 'MAML'?"


def test_a_pair_of_domains_has_names_as_text():
    with pytest.raises(ValueError, match="source must be of type str, got 1"):
        DomainPair(source=1, target="b")  # pyrefly: ignore


def test_numbers_of_any_unit_are_legible():
    for value, form, text in (
        (0.9513, ".3f", "0.951"),
        (19.5113, ".3f", "19.511"),
        (-0.0004, ".3f", "-0.0004"),
        (7.2e-31, ".4f", "7.2e-31"),
        (0.0, ".2f", "0.00"),
        (4.0, "5.2f", " 4.00"),
    ):
        assert fields.rounded(value, form) == text
