"""Methods of other packages: by value in `compare`, by entry point in every command."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import cli, learners, registry
from metajax.baselines import Baseline
from metajax.data.dataset import Shapes
from metajax.evaluation import compare
from metajax.fields import bounded
from metajax.methods import Method, Options, by_one_pass, outer_optimizer
from metajax.types import Adaptation, Examples, Inputs, Model


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevelOptions(Options):
    """Options of the toy method."""

    level: float = bounded(3.0, above=0)
    """Rating of everything at first."""


def network(settings, shapes):
    """Scores an item by one number for all and one of its own."""
    del shapes

    def init(key, inputs):
        del key, inputs
        return {"level": jnp.full((), settings.options.level), "slope": jnp.full((), 0.01)}

    return Model(init, lambda params, x: params["level"] + params["slope"] * (x.item % 7))


level = Method(
    "level",
    learner=by_one_pass(learners.supervised),
    network=network,
    options=LevelOptions,
    settings={"updates": 10, "tasks": 4},
    grid=({}, {"level": 3.5}),
)

bent = Baseline(
    "bent",
    "rating",
    lambda training: np.float32(training.interactions.rating.mean()),
    Adaptation(
        lambda params, support, key=None: (),
        lambda params, adapted, inputs: params + 0.01 * inputs.item,
    ),
)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs this module's methods as those of another package."""
    (tmp_path / "toy_methods.py").write_text(f"from {__name__} import bent, level\n")
    folder = tmp_path / "toy_methods-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-methods\nVersion: 1\n")
    points = "[metajax.methods]\nlevel = toy_methods:level\nbent = toy_methods:bent\n"
    (folder / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    caches = registry.all_methods, registry.all_baselines
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_compare_takes_methods_by_value(small):
    changes = {"per_dispatch": 5, "validate_every": 5, "level": {"level": 2.5}}
    options = {"protocols": ["P1"], "folds": [0], "trials": 1, "changes": changes}
    found = compare(str(small), [level, bent, "item_mean"], **options)
    assert {record.method for record in found.records} == {"level", "bent", "item_mean"}
    with pytest.raises(ValueError, match="unknown setting 'levl'; did you mean 'level'"):
        compare(str(small), [level], **{**options, "changes": {"level": {"levl": 2.5}}})
    with pytest.raises(ValueError, match="methods must have names of their own, got 'maml'"):
        compare(str(small), [level._replace(name="maml")], **options)


def test_commands_find_methods_of_entry_points(small, installed, tmp_path, capsys):
    folder = tmp_path / "run"
    train = ["train", "--method=level", "--level.level=2.5", f"--data={small}", "--run", folder]
    few = ["--per-dispatch=5", "--validate-every=5", "--no-report"]
    assert cli.main([*map(str, train), *few]) == 0
    settings = json.loads((folder / "settings.json").read_text())
    assert (settings["method"], settings["level"]) == ("level", {"level": 2.5})
    assert cli.main(["recommend", str(folder), "--ratings=Film 3=5", "--top=2"]) == 0
    assert len(capsys.readouterr().out.strip().splitlines()[-2:]) == 2
    shared, table = "per_dispatch = 5\nvalidate_every = 5\n", "[level]\nlevel = 2.0\n"
    (tmp_path / "a.toml").write_text(shared + table)
    compared = ["--methods=level,bent", "--protocols=P1", "--folds=1", "--trials=1"]
    where = [f"--folder={tmp_path / 'c'}", f"--config={tmp_path / 'a.toml'}", f"--data={small}"]
    assert cli.main(["compare", *compared, *where]) == 0
    assert "level" in registry.names()
    assert "bent" in registry.baseline_names()


@pytest.mark.slow
def test_evaluate_finds_methods_of_entry_points(small, installed, tmp_path, monkeypatch):
    monkeypatch.setattr("metajax.evaluation.tables.all_baselines", lambda: (bent,))
    folder = tmp_path / "run"
    few = ["--per-dispatch=5", "--validate-every=5", "--no-report", f"--data={small}"]
    assert cli.main(["train", "--method=level", *few, f"--run={folder}"]) == 0
    assert cli.main(["evaluate", str(folder)]) == 0
    assert "level" in (folder / "report.json").read_text()


@pytest.mark.parametrize(
    ("objective", "broadcasts", "rows"),
    [("ndcg", True, 1), ("ndcg", False, 6), ("rating", True, 6)],
)
def test_a_network_that_broadcasts_the_user_orders_a_catalogue_by_one_row(
    objective, broadcasts, rows
):
    seen = []

    def apply(params, inputs):
        seen.append(len(inputs.user_features))
        return (inputs.user_features * inputs.item_features) @ params

    def crossed(settings, shapes):
        return Model(lambda key, inputs: jnp.ones(3), apply, broadcasts_user=broadcasts)

    own = level._replace(name="crossed", network=crossed, options=Options)
    settings = registry.settings_for(own, objective=objective)
    judged = registry.judged_adaptation_of(settings, Shapes(6, 3, 3, None), own)
    rng = np.random.default_rng(0)
    user, items, params = rng.normal(size=(1, 3)), rng.normal(size=(6, 3)), rng.normal(size=3)
    inputs = Inputs(jnp.repeat(jnp.asarray(user), 6, axis=0), jnp.asarray(items), jnp.arange(6))
    adapted = judged.adapt(params, Examples(inputs, jnp.ones(6), jnp.ones(6, bool)))
    seen.clear()
    scores = judged.predict(params, adapted, inputs)
    assert seen == [rows]
    np.testing.assert_allclose(scores, (user * items) @ params, rtol=1e-5)


def test_options_may_not_have_names_of_shared_settings():
    @dataclasses.dataclass(frozen=True)
    class Clashing:
        rate: float = 1.0

    with pytest.raises(
        ValueError, match=r"of 'level' must not have names of shared .*, got 'rate'"
    ):
        registry.check_options(level._replace(options=Clashing))


def test_settings_of_one_method_do_not_serve_another():
    settings = registry.settings_for("maml")
    with pytest.raises(ValueError, match="settings must be those of 'level' with LevelOptions"):
        registry.learner_of(settings, Shapes(1, 1, 1, None), level)


def test_no_update_is_larger_than_clip_allows():
    """Adam's second moment shows the norm of a clipped gradient."""
    settings = registry.settings_for(level, clip=0.5, weight_decay=0.0)
    optimizer = outer_optimizer(settings)
    params = jnp.zeros(4)
    state = optimizer.init(params)
    _, state = optimizer.update(jnp.full(4, 5e5), state, params)
    second = optax.tree_utils.tree_get(state, "nu")
    np.testing.assert_allclose(jnp.sqrt(jnp.sum(second) / (1 - 0.999)), 0.5, rtol=1e-4)


def test_the_schedule_warms_up_and_decays_over_the_updates_asked_for():
    settings = registry.settings_for(
        level, updates=91, per_dispatch=10, validate_every=10, rate=0.1, weight_decay=0.0
    )
    optimizer = outer_optimizer(settings)
    params = jnp.zeros(())

    def step(state, _):
        # Adam's update of a constant gradient is the learning rate.
        updates, state = optimizer.update(jnp.ones(()), state, params)
        return state, -jnp.asarray(updates)

    _, rates = jax.lax.scan(step, optimizer.init(params), length=91)
    expected = optax.warmup_cosine_decay_schedule(0.0, 0.1, 9, 91)(jnp.arange(91))
    np.testing.assert_allclose(rates, expected, atol=1e-5)
