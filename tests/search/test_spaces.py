import inspect
import math

import numpy as np
import pytest

from metajax import registry
from metajax.baselines import Baseline
from metajax.data import datasets
from metajax.data.cold_users import cold_users
from metajax.fields import Choices, Range
from metajax.knowledge import GraphSettings
from metajax.search import spaces

METHODS = [m.name for m in registry.all_methods()]
CLOSED_FORMS = [b.name for b in registry.all_baselines()]


def drawn(space, rng):
    """A point of a space."""

    def value(values):
        if isinstance(values, Choices):
            return values.values[rng.integers(len(values.values))]
        if values.whole:
            return int(rng.integers(values.low, values.high + 1))
        return float(rng.uniform(values.low, values.high))

    return {name: value(values) for name, values in space.items()}


def corners(space):
    """The ends of every range, and each choice in turn."""
    for at in (0, -1):
        yield {
            name: values.values[at]
            if isinstance(values, Choices)
            else (values.low, values.high)[at]
            for name, values in space.items()
        }


@pytest.mark.parametrize("name", METHODS)
def test_points_of_the_space_of_a_method_are_legal_settings(name):
    space, defaults = spaces.space_of(name), spaces.defaults_of(name)
    assert {"rate", "weight_decay", "clip"} <= space.keys() == defaults.keys()
    outside = [name for name, value in defaults.items() if value not in space[name]]
    assert outside == []
    rng, settings = np.random.default_rng(0), registry.settings_for(name)
    for point in [*corners(space), *(drawn(space, rng) for _ in range(5))]:
        changed = registry.with_changes(settings, **point)
        known = {**vars(changed), **vars(changed.options)}
        assert {name: known[name] for name in point} == point


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_the_space_of_a_closed_form_begins_with_its_defaults(name):
    baseline = registry.method_of(name)
    assert isinstance(baseline, Baseline)
    space, defaults = spaces.space_of(name), spaces.defaults_of(name)
    assert space.keys() == defaults.keys()
    assert all(value in space[name] for name, value in defaults.items())
    # Arguments of its fit; what it does not name itself, the first setting of the grid does.
    arguments = inspect.signature(baseline.fit).parameters
    assert all(key in arguments or key in baseline.grid[0] for key in baseline.ranges)
    if len(baseline.grid) > 1:
        assert space
    tried = [spaces.setting_of(baseline, point) for point in corners(space)]
    if not baseline.ranges:
        assert tried == [dict(baseline.grid[0]), dict(baseline.grid[-1])]


@pytest.fixture(scope="module")
def split(small):
    return cold_users(datasets.load(str(small)), fold=0, seed=0)


@pytest.mark.parametrize(
    "name", [b.name for b in registry.all_baselines() if b.ranges and not b.two_domains]
)
def test_a_closed_form_is_fitted_at_the_corners_of_its_space(name, split):
    baseline = registry.method_of(name)
    assert isinstance(baseline, Baseline)
    for point in corners(spaces.space_of(name)):
        assert baseline.fit(split.training, **spaces.setting_of(baseline, point)) is not None


def test_what_only_the_grid_changes_is_a_choice_among_its_values():
    assert spaces.space_of("attentive_neighbours")["order"] == Choices(("random", "time"))
    assert spaces.space_of("content_fold_in") == {"setting": Choices((0, 1, 2))}
    assert spaces.space_of("hybrid") == {}
    assert spaces.space_of("maml")["rate"] == Range(1e-5, 1e-2, log=True)
    assert spaces.space_of("maml")["clip"] == Choices((0.5, 1.0, 5.0))


def test_the_objective_is_the_loss_that_training_chooses_by(trained, quick, small):
    _, progress = trained
    problem = spaces.ColdUsers(datasets.load(str(small)), quick)
    curve = {}
    loss = problem.objective()({}, curve.__setitem__)
    assert loss == float(progress.best_loss) == np.float32(min(curve.values()))
    assert list(curve) == [10, 20, 30, 40]


def test_settings_that_are_given_are_not_searched(quick, small):
    problem = spaces.ColdUsers(datasets.load(str(small)), quick, frozenset({"rate", "steps"}))
    assert problem.space.keys() == {"weight_decay", "clip", "rank", "inner_rate"}
    facts = problem.facts()
    assert facts["space"]["clip"] == "0.5 or 1.0 or 5.0"
    assert (facts["protocol"], facts["fold"], facts["seed"]) == ("P1", 0, 0)


def test_a_method_of_two_domains_is_refused(small):
    settings = registry.settings_for("target_only", data=str(small))
    with pytest.raises(ValueError, match="'target_only' needs two domains"):
        spaces.ColdUsers(datasets.load(str(small)), settings).objective()


def test_the_space_of_a_graph():
    problem = spaces.Links(None, None, GraphSettings(), frozenset({"margin"}))  # pyrefly: ignore
    assert problem.space["negatives"] == Range(5, 20)
    assert problem.space.keys() == {"negatives", "rate", "temperature"}
    assert problem.defaults == {"negatives": 16, "rate": 0.01, "temperature": 1.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Range(2.0, 2.0), "low must be < high, got 2.0 and 2.0."),
        (lambda: Range(0.0, 1.0, log=True), "low must be > 0 where the scale is logarithmic"),
        (lambda: Range(math.nan, 1.0), "low must be < high"),
        (lambda: Range(0.0, math.inf), "low must be < high"),
        (lambda: Choices((1,)), "values must be distinct and at least two"),
        (lambda: Choices((1, 1)), "values must be distinct and at least two"),
    ],
)
def test_ranges_without_a_choice_are_refused(make, message):
    with pytest.raises(ValueError, match=message.replace("(", "\\(")):
        make()


def test_what_is_in_a_range():
    assert 1e-3 in Range(1e-5, 1e-2, log=True)
    assert 0.1 not in Range(1e-5, 1e-2, log=True)
    assert 3 in Range(2, 16)
    assert 3.0 not in Range(2, 16)
    assert True not in Range(0, 1)
    assert "a" not in Range(0.0, 1.0)
