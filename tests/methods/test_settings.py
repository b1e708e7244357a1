import dataclasses
import inspect
import json

import pytest

from metajax import registry
from metajax.cli import sources
from metajax.methods import Settings


def test_settings_survive_a_round_trip(tmp_path):
    path = tmp_path / "settings.json"
    chosen = registry.settings_for(
        "maml", adapts=("predictor/*", "direct/*"), rate=0.1, scale=(0.5, 5.0)
    )
    path.write_text(registry.to_json(chosen))
    assert registry.from_json(path) == chosen
    written = json.loads(path.read_text())
    assert (written["method"], written["rate"]) == ("maml", 0.1)
    assert written["maml"]["adapts"] == ["predictor/*", "direct/*"]


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("steps", 0, "steps must be >= 1, got 0."),
        ("support", -1, "support must be >= 0, got -1."),
        ("rate", 0.0, "rate must be > 0, got 0.0."),
        ("rate", "fast", "rate must be of type float, got 'fast'."),
        ("steps", 2.5, "steps must be of type int, got 2.5."),
        ("steps", True, "steps must be of type int, got True."),
        ("rate", float("nan"), "rate must be finite, got nan."),
        ("fold", 5, "fold must be 0 to 4, got 5."),
        ("pretrained", 1, "pretrained must be of type bool, got 1."),
        (
            "steep",
            5,
            "settings of maml: unknown setting 'steep'; did you mean 'steps'?",
        ),
        ("validate_every", 15, "validate_every must be a multiple of per_dispatch (10), got 15."),
    ],
)
def test_an_invalid_value_is_refused(name, value, rule):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        registry.settings_for("maml", **{name: value})
    assert str(error.value) == rule


def test_an_unknown_objective_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"objective must be a .*, got 'ratng'; .* 'rating'\?"):
        registry.predicts_ratings(registry.settings_for("maml", objective="ratng"))


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"updats": 3}, "a.toml: unknown setting 'updats'; did you mean 'updates'?"),
        ({"mmal": {}}, "a.toml: unknown setting 'mmal'; did you mean 'maml'?"),
        (
            {"fomaml": {"inner_rat": 0.1}},
            "a.toml, fomaml: unknown setting 'inner_rat'; did you mean 'inner_rate'?",
        ),
        ({"maml": 3}, "a.toml: maml must be a table of options, got 3."),
        (
            {"inner_rate": 0.1},
            "a.toml: 'inner_rate' is an option of a method and belongs in its table, such as "
            "maml.inner_rate.",
        ),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(values, rule):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        registry.check_values(values, "a.toml")
    assert str(error.value) == rule


def test_changes_of_a_comparison_are_routed_to_their_settings():
    changes = {"updates": 7, "rank": 4, "maml": {"rank": 2}, "reptile": {"steps": 3}}
    assert registry.changes_for("maml", changes) == {"updates": 7, "rank": 2}
    assert registry.changes_for("reptile", changes) == {"updates": 7, "rank": 4, "steps": 3}
    with pytest.raises(ValueError, match="changes: unknown setting 'rnk'; did you mean 'rank'"):
        registry.changes_for("maml", {"rnk": 3})


def test_another_method_under_the_same_conditions_keeps_its_own_defaults():
    settings = registry.settings_for("maml", tasks=7, width=5, inner_rate=0.3, rate=0.02)
    other = registry.settings_for("reptile", tasks=7, width=5)
    assert registry.settings_like("reptile", settings) == other
    plain = registry.settings_like("two_tower", settings)
    assert (plain.tasks, plain.rate, plain.options.width) == (7, 0.02, 5)


def test_the_environment_reaches_the_table_of_a_method(monkeypatch):
    monkeypatch.setenv("METAJAX_MAML_INNER_RATE", "0.3")
    monkeypatch.setenv("METAJAX_TASKS", "7")
    assert sources._environment() == {"maml": {"inner_rate": "0.3"}, "tasks": "7"}
    monkeypatch.setenv("METAJAX_MAML_INNER_RAT", "0.3")
    with pytest.raises(ValueError, match="unknown setting 'maml_inner_rat'"):
        sources._environment()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"rate": 1}', '{"rate": "x", "adapts": []}', "{"]
)
def test_a_broken_file_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r"settings\.json.*: not (the settings of a run|JSON)"
    ) as error:
        registry.from_json(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "kind",
    dict.fromkeys([Settings, *(method.options for method in registry.all_methods())]),
    ids=lambda kind: kind.__name__,
)
def test_every_setting_is_documented(kind):
    text = "".join(inspect.getsource(base) for base in kind.__mro__[:-1])
    for field in dataclasses.fields(kind):
        assert f"    {field.name}: " in text
        assert text.split(f"    {field.name}: ")[1].split("\n")[1].strip().startswith('"""')
