import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import engine, losses, registry, runs
from metajax.baselines.biases import item_mean
from metajax.data import load as load_data
from metajax.data.dataset import shapes_of
from metajax.engine.carrying import Places, carried, carried_fisher
from metajax.engine.consolidation import consolidated_method
from metajax.engine.model import hashed
from metajax.engine.refit import refit
from metajax.learners import supervised
from metajax.methods import Method
from metajax.types import Examples, Model, Task

FEW = {"updates": 8, "per_dispatch": 2, "validate_every": 2, "tasks": 8, "rank": 2, "query": 5}


def part(folder, tmp_path, name, keep, items=True):
    """Writes the rows of the log that `keep(user, item)` holds of, and both tables."""
    found = tmp_path / name
    found.mkdir()
    head, *rows = (folder / "small.inter").read_text().splitlines()
    rows = [row for row in rows if keep(*map(int, row.split("\t")[:2]))]
    (found / f"{name}.inter").write_text("\n".join([head, *rows]) + "\n")
    used = {row.split("\t")[1] for row in rows}
    for kind in ("user", *(["item"] if items else [])):
        head, *lines = (folder / f"small.{kind}").read_text().splitlines()
        lines = [line for line in lines if kind == "user" or line.split("\t")[0] in used]
        (found / f"{name}.{kind}").write_text("\n".join([head, *lines]) + "\n")
    return load_data(found, scale=(1, 5))


@pytest.fixture(scope="module")
def parts(small, tmp_path_factory):
    """The first 30 users with 24 of the items; the other rows, without the items' table; all."""
    folder = tmp_path_factory.mktemp("parts")

    def early(user, item):
        return user < 30 and item < 24

    return (
        part(small, folder, "early", early),
        part(small, folder, "late", lambda u, i: not early(u, i), items=False),
        part(small, folder, "every", lambda u, i: True),
    )


@pytest.fixture(scope="module")
def trained(parts):
    settings = registry.settings_for("bayesian_ridge", **FEW)
    return engine.fit(parts[0], "bayesian_ridge", settings=settings)


def asked(model):
    ratings = {"Film 3": 5, "Film 20": 2}
    return {one.item_id: one.score for one in runs.recommend(model.recommender, ratings, top=40)}


def test_new_data_and_replayed_ones_are_all_data(parts):
    early, late, every = parts
    first = engine.fit(early, "attribute_ridge", trials=1)
    found = refit(first, late, replay=early)
    expected = engine.fit(every, "attribute_ridge", trials=1)
    # The late log has no table of items: attributes of known ones are the model's.
    known = [name for name in first.recommender.catalogue.ids.tolist() if name in asked(found)]
    assert len(asked(found)) == len(asked(expected)) == 28
    np.testing.assert_array_equal(np.sort(found.fitted_users), np.sort(expected.fitted_users))
    tables = [one.recommender.catalogue for one in (found, expected)]
    at = np.searchsorted(tables[0].ids, known)
    assert (tables[0].titles[at] == tables[1].titles[at]).all()
    classes = [table.attributes.columns["class"][at] for table in tables if table.attributes]
    assert (classes[0] == classes[1]).all()
    alone = refit(first, late)
    assert set(asked(alone)) == set(asked(found)) != set(asked(first))
    assert asked(alone) != asked(found)
    # Whom it has forgotten it has seen.
    assert set(alone.fitted_users) == set(found.fitted_users)
    assert len(alone.user_rows) < len(alone.fitted_users)


def test_a_refit_of_its_own_sees_the_encoding_of_the_model(parts, monkeypatch):
    early, _, every = parts
    seen = []

    def again(params, training, **settings):
        seen.append(training)
        return {"item_mean": jnp.zeros(len(training.item_features))}

    method = item_mean._replace(refit=again)
    monkeypatch.setattr(
        sys.modules["metajax.engine.refit"], "chosen_method", lambda dataset, name: method
    )
    first = engine.fit(early, "item_mean", trials=1)
    # A class of so many films that the encoding of all data would know it.
    columns = every.items.columns
    changed = columns["class"].astype("<U8").copy()
    changed[np.isin(every.items.ids, [str(n) for n in range(24, 30)])] = "Western"
    items = every.items._replace(columns={**columns, "class": changed})
    model = refit(first, every._replace(items=items))
    (training,) = seen
    assert model.item_schema == first.item_schema
    assert model.recommender.user_schema == first.recommender.user_schema
    assert model.recommender.labels == first.recommender.labels
    catalogue = first.recommender.catalogue
    at = np.searchsorted(training.interactions.item_ids, catalogue.ids)
    np.testing.assert_array_equal(training.item_features[at], catalogue.item_features)
    unknown = first.item_schema.columns.index("class=<unknown>")
    western = np.isin(training.interactions.item_ids, [str(n) for n in range(24, 30)])
    np.testing.assert_array_equal(training.item_features[:, unknown], western)


def test_vectors_of_a_graph_keep_their_axes(parts, small, tmp_path, monkeypatch):
    early, _, every = parts
    seen = []
    method = item_mean._replace(
        refit=lambda params, training, **settings: seen.append(training) or params
    )
    module = sys.modules["metajax.engine.refit"]
    monkeypatch.setattr(module, "chosen_method", lambda dataset, name: method)
    # As another decomposition may: turned, and with other signs.
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    plain = module.vectors_of
    monkeypatch.setattr(module, "vectors_of", lambda *given: plain(*given) @ turn)
    graph = tmp_path / "films.tsv"
    facts = [f"{n}\tby\tperson{n % 3}\n{n}\tof\tkind{n % 2}" for n in range(30)]
    graph.write_text("\n".join(facts) + "\n")
    first = engine.fit(early, "item_mean", trials=1, graph=engine.read_linked(graph, early))
    refit(first, every, graph=engine.read_linked(graph, every))
    catalogue, width = first.recommender.catalogue, first.item_schema.width
    earlier = dict(zip(catalogue.ids.tolist(), catalogue.item_features[:, width:], strict=True))
    ids, found = seen[0].interactions.item_ids.tolist(), seen[0].item_features[:, width:]
    for name in earlier:
        np.testing.assert_allclose(found[ids.index(name)], earlier[name], atol=1e-4)
    # A new film has the vector of one with the same facts.
    np.testing.assert_allclose(found[ids.index("24")], found[ids.index("0")], atol=1e-4)
    with pytest.raises(ValueError, match="was fitted with a graph, and now there is none"):
        refit(first, every)


def small_settings(method, **options):
    return registry.settings_for(method, **{"updates": 4, "per_dispatch": 2, **options})


def test_tables_are_carried_over_by_id(parts):
    shapes = shapes_of(engine.everyone(parts[0]).training)
    settings = small_settings("two_tower", rank=2, width=4, embedding=3, validate_every=2)
    rng = np.random.default_rng(0)

    def filled(items):
        like = registry.params_like(settings, shapes._replace(items=items))
        return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), like)

    old, fresh = filled(24), filled(30)
    was, now = rng.permutation(24)[:20], rng.permutation(30)[:20]
    # Fresh vectors are those of the table, turned: what is new is turned back.
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    table = rng.normal(size=(30, 3))
    table[now] = old["item_embedding"]["embedding"][was]
    fresh["item_embedding"]["embedding"] = jnp.asarray(table @ turn)
    places = Places((was, now), (np.arange(0), np.arange(0)))
    found = carried(settings, shapes._replace(items=24), old, fresh, places)
    np.testing.assert_allclose(found["item_embedding"]["embedding"], table, atol=1e-6)
    bias = found["item_bias"]["embedding"]
    np.testing.assert_array_equal(bias[now], old["item_bias"]["embedding"][was])
    # A random row says nothing: the table's mean, nearly.
    new = np.setdiff1d(np.arange(30), now)
    spread = np.std(fresh["item_bias"]["embedding"][new])
    assert np.std(bias[new]) < 0.6 * spread
    rest = [name for name in old if name not in ("item_embedding", "item_bias")]
    for name in rest:
        jax.tree.map(np.testing.assert_array_equal, found[name], old[name])
    fisher = jax.tree.map(lambda leaf: leaf**2, old)
    fisher["item_bias"]["embedding"] = jnp.zeros(())
    kept = carried_fisher(settings, shapes._replace(items=24), fisher, fresh, places)
    of_items = np.asarray(kept["item_embedding"]["embedding"])
    np.testing.assert_allclose(of_items[now], fisher["item_embedding"]["embedding"][was])
    assert not of_items[new].any()
    assert kept["item_bias"]["embedding"].shape == ()
    wider = small_settings("two_tower", rank=2, width=5, embedding=3, validate_every=2)
    with pytest.raises(ValueError, match=r"had sizes .* fit the method from scratch"):
        carried(wider, shapes._replace(items=24), old, filled_like(wider, shapes, 30), places)


def filled_like(settings, shapes, items):
    like = registry.params_like(settings, shapes._replace(items=items))
    return jax.tree.map(lambda leaf: jnp.ones(leaf.shape), like)


def test_what_stores_a_log_is_of_the_new_one(parts):
    shapes = shapes_of(engine.everyone(parts[0]).training)
    settings = small_settings("graph_light", embedding=4, validate_every=2)
    old = filled_like(settings, shapes, 24)
    fresh = jax.tree.map(lambda leaf: 2 * leaf, filled_like(settings, shapes, 30))
    was, now = np.arange(24), np.arange(6, 30)
    users = np.arange(3), np.array([5, 7, 9])
    found = carried(settings, shapes._replace(items=24), old, fresh, Places((was, now), users))
    jax.tree.map(np.testing.assert_array_equal, found["graph"], fresh["graph"])
    assert (np.asarray(found["item"])[now] == 1).all()
    assert (np.asarray(found["user"])[users[1]] == 1).all()
    memory = small_settings("attentive_neighbours", memory=8, validate_every=2)
    old, fresh = (filled_like(memory, shapes, n) for n in (24, 30))
    fresh = jax.tree.map(lambda leaf: 2 * leaf, fresh)
    found = carried(memory, shapes._replace(items=24), old, fresh, Places((was, now), users))
    jax.tree.map(np.testing.assert_array_equal, found["memory"], fresh["memory"])
    kept = carried_fisher(memory, shapes._replace(items=24), old, fresh, Places((was, now), users))
    assert not any(map(np.any, jax.tree.leaves(kept["memory"])))
    assert kept["floor"] == 1
    assert found["floor"] == 1


def test_training_with_the_penalty_ends_at_the_minimum_of_the_sum():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(6, 4, 2)), rng.normal(size=(6, 4))
    examples = Examples(jnp.asarray(X), jnp.asarray(y), jnp.ones((6, 4), bool))
    tasks = Task(examples, examples)
    line = Model(init=lambda key, x: jnp.zeros(2), apply=lambda w, x: x @ w)
    method = Method(
        "line",
        learner=lambda settings, network: supervised(
            network, losses.squared_error, outer=optax.sgd(0.1)
        ),
        network=lambda settings, shapes: line,
    )
    anchor, fisher = jnp.array([1.0, -2.0]), jnp.array([0.5, 4.0])
    pulled = consolidated_method(method, anchor, fisher, 0.7)
    settings = registry.settings_for("maml")
    learner = pulled.learner(settings, line)
    state = learner.init(jax.random.key(0), tasks)
    state, _ = jax.lax.scan(lambda s, _: (learner.update(s, tasks)[0], None), state, length=500)
    gram = 2 * np.einsum("tni,tnj->ij", X, X) / 24 + 0.7 * np.diag(fisher)
    right = 2 * np.einsum("tni,tn->i", X, y) / 24 + 0.7 * np.asarray(fisher * anchor)
    np.testing.assert_allclose(state.params, np.linalg.solve(gram, right), atol=1e-5)
    with pytest.raises(ValueError, match="weight must be finite and >= 0"):
        consolidated_method(method, anchor, fisher, -1.0).learner(
            registry.settings_for("maml"), line
        )


@pytest.mark.slow
def test_a_trained_method_goes_on_from_its_parameters(parts, trained, tmp_path):
    _, late, _ = parts
    assert 1 <= trained.updates <= 8
    loaded = engine.load(engine.save(trained, tmp_path / "model"))
    np.testing.assert_array_equal(loaded.user_rows, parts[0].interactions.users)
    assert len(loaded.user_rows) == 30
    jax.tree.map(np.testing.assert_array_equal, loaded.fisher, trained.fisher)
    found = refit(loaded, late, updates=1)
    catalogue = found.recommender.catalogue
    assert set(trained.recommender.catalogue.ids) < set(catalogue.ids)
    assert (found.updates, found.settings) == (trained.updates, trained.settings)
    at = np.searchsorted(catalogue.ids, trained.recommender.catalogue.ids)
    rows = [m.recommender.params["item_embedding"]["embedding"] for m in (found, trained)]
    np.testing.assert_array_equal(rows[0][at], rows[1])
    assert np.isfinite(list(asked(found).values())).all()

    def left(model):
        trees = (one.recommender.params for one in (model, trained))
        terms = jax.tree.map(
            lambda now, was, f: (
                0.0 if now.shape != was.shape else float(np.sum(f * (now - was) ** 2))
            ),
            *trees,
            trained.fisher,
        )
        return sum(jax.tree.leaves(terms))

    plain, free, held = (refit(trained, late, updates=30, ewc=s) for s in (None, 0.0, 1e3))
    assert left(free) == pytest.approx(left(plain), rel=1e-3)
    assert left(held) < 0.5 * left(free)


def test_a_quarter_of_the_updates_are_made_from_a_model_of_the_same_ids(
    parts, trained, monkeypatch
):
    module, made = sys.modules["metajax.engine.refit"], []

    def train(learner, sample, table, progress, **options):
        made.append((options["updates"], progress.state.params))
        yield progress, None

    monkeypatch.setattr(module, "train", train)
    refit(trained._replace(updates=8), parts[0])
    refit(trained._replace(updates=1), parts[0])
    assert [updates for updates, _ in made] == [2, 1]
    # Nothing is new: training begins where it ended.
    expected = trained.recommender.params
    jax.tree.map(np.testing.assert_array_equal, made[0][1], expected)


def test_rows_of_users_are_those_of_tables(parts, trained):
    early, _, every = parts
    module = sys.modules["metajax.engine.refit"]
    # As of a log with a user who has done nothing, before all others; and one of an older model.
    users = np.append(trained.fitted_users, hashed(["35"]))
    model = trained._replace(user_rows=trained.user_rows + 1, fitted_users=users)
    was, now = module._places(model, every).users
    names = every.interactions.user_ids[now]
    assert len(names) == 30
    assert (early.interactions.user_ids[was - 1] == names).all()


def test_half_of_the_tasks_are_replayed(parts):
    module = sys.modules["metajax.engine.refit"]
    training = engine.everyone(parts[2]).training
    settings = registry.settings_for("bayesian_ridge", **FEW)
    ids = training.interactions.user_ids
    groups = ids[:4], ids[30:]
    sample, table = module._tasks(settings, training, groups)
    tasks = jax.jit(sample)(table, jax.random.key(0))
    assert len(tasks.query.mask) == 8
    for half, users in zip((slice(4), slice(4, 8)), (range(4), range(30, 40)), strict=True):
        for row in np.asarray(tasks.support.inputs.user_features)[half, 0]:
            same = np.flatnonzero((training.user_features == row).all(axis=1))
            assert set(same) & set(users)


def test_data_that_do_not_suit_the_model_are_refused(parts, trained):
    early, late, _ = parts
    first = engine.fit(early, "item_mean", trials=1)
    rated, ranked = (
        engine.fit(early._replace(scale=scale), "item_knn", trials=1) for scale in ((1, 5), None)
    )
    rating = late.interactions.rating
    cases: tuple[tuple[Any, Any, dict[str, Any], str], ...] = (
        (first, late._replace(scale=(0, 5)), {}, "the scale of the model, 1 to 5, got 0 to 5"),
        (
            first,
            late._replace(interactions=late.interactions._replace(rating=rating + 2)),
            {},
            "the scale of the model, 1 to 5, got a rating of [67]",
        ),
        (rated, late._replace(scale=None), {}, "has learned from ratings, and .*late has none"),
        (ranked, late, {}, "has learned without ratings, and .*late has some"),
        (
            first,
            late._replace(transform="log1p", options={"transform": "log1p"}),
            {},
            r"transform \(--transform\) must be that of the model, none, got log1p",
        ),
        (
            first,
            late._replace(relevant=3.0, options={"relevant": 3.0}),
            {},
            r"relevant \(--relevant\) must be that of the model, none, got 3",
        ),
        (first, late, {"ewc": 1.0}, "ewc must be left out for 'item_mean'"),
        (first, late, {"updates": 3, "ewc": 1.0}, "updates and ewc must be left out"),
        (trained, late, {"updates": 0}, "updates must be >= 1"),
        (trained, late, {"ewc": float("nan")}, "weight must be finite"),
        (trained._replace(fisher=None), late, {"ewc": 1.0}, "the model holds none"),
        (trained._replace(method="nothing"), late, {}, "method must be"),
    )
    for model, data, options, words in cases:
        with pytest.raises(ValueError, match=words):
            refit(model, data, **options)
