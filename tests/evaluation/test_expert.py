import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.data.dataset import shapes_of
from metajax.data.datasets import load
from metajax.evaluation import expert as experts
from metajax.evaluation import prepare
from metajax.evaluation.expert import trained_expert
from metajax.evaluation.tuning import fitted, judge, learned, refit_on
from metajax.registry import first_progress, settings_for

TINY = {
    "rank": 2, "width": 4, "embedding": 2, "steps": 1, "updates": 10, "tasks": 4, "query": 5,
    "per_dispatch": 5, "validate_every": 5, "inner_rate": 0.05,
}  # fmt: skip


@pytest.fixture(scope="module")
def split(small):
    return prepare("P1", load(str(small)), fold=0, seed=0)


def test_its_fit_is_the_training_on_everyone(split):
    expert = trained_expert("maml", shapes_of(split.final), stop=False, **TINY)
    params = expert.fit(split.final)
    settings = settings_for("maml", **TINY)
    whole = refit_on(split, settings, first_progress(settings, split.final), 10)
    jax.tree.map(np.testing.assert_array_equal, params, whole)
    own = judge(fitted(expert, split, params), split, "time").per_user
    other = judge(learned(settings, split, whole), split, "time").per_user
    np.testing.assert_array_equal(own.values["mse"], other.values["mse"])
    np.testing.assert_array_equal(own.top_items, other.top_items)


def test_early_stopping_holds_out_users_of_the_training_set(split, monkeypatch):
    seen, train_on = [], experts.train_on

    def noted(part, *rest):
        seen.append(part)
        for progress, row in train_on(part, *rest):
            yield progress._replace(best_step=jnp.int32(5)), row

    monkeypatch.setattr(experts, "train_on", noted)
    training = split.training
    params = trained_expert("maml", shapes_of(training), **TINY).fit(training)
    (part,) = seen
    held, everyone = part.fold.validation, training.interactions.users
    assert sorted([*held, *part.training.interactions.users]) == sorted(everyone)
    assert len(held) == -(-len(everyone) // 7)
    assert {order: set(tasks.user) for order, tasks in part.validation.items()} == {
        order: set(held) for order in ("random", "time")
    }
    settings = settings_for("maml", **TINY)
    five = refit_on(split._replace(final=training), settings, first_progress(settings, training), 5)
    jax.tree.map(np.testing.assert_array_equal, params, five)


def test_it_orders_where_its_objective_is_an_order_or_there_are_no_ratings(split):
    shapes = shapes_of(split.final)
    assert trained_expert("maml", shapes).predicts == "both"
    assert trained_expert("maml", shapes, objective="ndcg").predicts == "ranking"
    assert trained_expert("maml", shapes._replace(scale=None)).predicts == "ranking"


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("eb_fold_in", {}, "trained by updates, got the closed form 'eb_fold_in'"),
        ("emcdr", {}, "experts must be of one domain, got 'emcdr' for two"),
        ("maml", {"stps": 1}, "stps"),
    ],
)
def test_what_cannot_be_an_expert_is_refused(split, method, changes, message):
    with pytest.raises(ValueError, match=message):
        trained_expert(method, shapes_of(split.final), **changes)


def test_other_data_than_it_was_built_for_are_refused(split):
    expert = trained_expert("maml", shapes_of(split.final)._replace(items=7), stop=False, **TINY)
    with pytest.raises(ValueError, match=r"maml was built for \(items, .* \(7, .*, got \(30, "):
        expert.fit(split.final)
