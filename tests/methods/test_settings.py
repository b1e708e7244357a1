import dataclasses

import pytest

from metajax.methods import settings
from metajax.methods.settings import Settings


def test_settings_survive_a_round_trip(tmp_path):
    path = tmp_path / "settings.json"
    chosen = Settings(adapts=("predictor/*", "direct/*"), rate=0.1, scale=(0.5, 5.0))
    path.write_text(settings.to_json(chosen))
    assert settings.from_json(path) == chosen


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("steps", 0, "steps must be >= 1, got 0."),
        ("support", -1, "support must be >= 0, got -1."),
        ("rate", 0.0, "rate must be > 0, got 0.0."),
        ("rate", "fast", "rate must be of type float, got 'fast'."),
        ("steps", 2.5, "steps must be of type int, got 2.5."),
        ("steps", True, "steps must be of type int, got True."),
        ("rate", float("nan"), "rate must be > 0, got nan."),
        ("fold", 5, "fold must be 0 to 4, got 5."),
        ("pretrained", 1, "pretrained must be of type bool, got 1."),
        (
            "learner",
            "momaml",
            "learner must be a known name, got 'momaml'; did you mean 'fomaml'?",
        ),
        (
            "objective",
            "ratng",
            "objective must be a known name, got 'ratng'; did you mean 'rating'?",
        ),
        ("validate_every", 15, "validate_every must be a multiple of per_dispatch (10), got 15."),
    ],
)
def test_a_value_that_means_nothing_is_refused(name, value, rule):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Settings(**{name: value})
    assert str(error.value) == rule


def test_an_unknown_key_is_named_with_the_nearest():
    with pytest.raises(
        ValueError, match=r"a.toml: unknown setting 'inner_rat'; did you mean 'inner"
    ):
        settings.check_keys(["inner_rat"], "a.toml")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"rate": 1}', '{"rate": "x", "adapts": []}', "{"]
)
def test_a_broken_file_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"settings\.json: not the settings of a run") as error:
        settings.from_json(path)
    assert "\n" not in str(error.value)


def test_every_setting_is_documented():
    source = settings.__file__
    with open(source) as file:
        text = file.read()
    for field in dataclasses.fields(Settings):
        assert f"    {field.name}: " in text
        assert text.split(f"    {field.name}: ")[1].split("\n")[1].strip().startswith('"""')
