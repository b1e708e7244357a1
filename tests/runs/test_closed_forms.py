import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import checkpoint, parameters, registry, runs
from metajax.baselines import Baseline, Blend, eb_fold_in
from metajax.baselines.baseline import adapt_to_nothing
from metajax.cli.app import main
from metajax.cli.evaluate import judge
from metajax.data import load
from metajax.evaluation import tables, tuned
from metajax.registry import baseline_names, method_of, settings_for
from metajax.runs import judging
from metajax.types import Adaptation


@pytest.fixture(scope="module")
def fitted(begin_run, small, tmp_path_factory):
    """A run of EB fold-in, and its last progress, not to be written to."""
    folder = tmp_path_factory.mktemp("fitted") / "eb"
    run, progress = begin_run(folder, settings_for("eb_fold_in", data=str(small)))
    progress, finished = runs.train_run(run, progress)
    assert finished
    return run, progress


def assert_same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a, b)


def test_a_run_of_a_closed_form_has_the_setting_that_tuning_chooses(fitted):
    run, progress = fitted
    (expected, *others) = tuned(eb_fold_in, run.users, one_model=True).values()
    assert all(found.settings == expected.settings for found in others)
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    grid = eb_fold_in.grid
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5] == list(range(1, len(grid) + 2))
    assert rows[-1]["settings"] == expected.settings
    losses = [row["validation"] for row in rows[:-1]]
    assert grid[int(np.argmin(losses))] == expected.settings
    assert float(progress.best_loss) == min(losses)
    assert_same(run.params(progress), expected.params)
    assert_same(runs.load(run.folder).params, expected.params)


def test_a_run_of_a_closed_form_recommends_without_its_data(fitted, tmp_path):
    folder = shutil.copytree(fitted[0].folder, tmp_path / "moved")
    settings = json.loads((folder / "settings.json").read_text())
    assert {"method", "data", "seed"} <= set(settings)
    assert "updates" not in settings
    found = runs.recommend(runs.load(folder), {"Film 3": 5}, {"age": 30}, top=3)
    assert len(found) == 3
    assert all(1 <= line.score <= 5 for line in found)


def test_a_stopped_fit_continues_to_the_same_bits(fitted, begin_run, tmp_path):
    run, progress = begin_run(tmp_path / "stopped", fitted[0].settings)
    rows = []
    _, finished = runs.train_run(run, progress, on_row=rows.append, stop=lambda: len(rows) >= 2)
    assert not finished
    with pytest.raises(ValueError, match="eb_fold_in is not fitted to the end: metajax train --re"):
        runs.load(run.folder)
    again = runs.open_run(run.folder)
    progress, finished = runs.train_run(again, runs.resumed(again))
    assert finished
    assert progress.best == fitted[1].best
    name = "metrics.jsonl"
    assert (run.folder / name).read_bytes() == (fitted[0].folder / name).read_bytes()


def test_a_flipped_bit_in_the_parameters_is_refused(fitted, tmp_path):
    folder = shutil.copytree(fitted[0].folder, tmp_path / "copy")
    last = folder / "checkpoints" / "00000005" / "arrays.bin"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    skipped = []
    with pytest.raises(ValueError, match="not fitted to the end"):
        runs.load(folder, on_skip=lambda step, reason: skipped.append(step))
    assert skipped == [5]
    # Fitted again from the checkpoint before.
    opened = runs.open_run(folder)
    resumed = runs.resumed(opened, on_skip=lambda step, reason: None)
    assert runs.train_run(opened, resumed)[0].best == fitted[1].best


def test_settings_of_training_are_none_of_a_closed_form():
    with pytest.raises(ValueError, match=r"settings of the closed form ease.*updates"):
        settings_for("ease", updates=3)


@pytest.mark.parametrize("name", baseline_names(domains=1))
@pytest.mark.slow
def test_parameters_of_every_closed_form_are_stored(name, fitted):
    closed_form = method_of(name)
    assert isinstance(closed_form, Baseline)
    params = closed_form.fit(fitted[0].users.training, **closed_form.grid[0])
    stored = parameters.from_bytes(parameters.to_bytes(params))
    assert jax.tree.structure(stored) == jax.tree.structure(params)
    assert_same(stored, params)


def test_bytes_of_any_length_are_stored_in_a_checkpoint(tmp_path):
    checkpoint.save(tmp_path, 1, {"best": b"abc", "empty": b"", "step": 1})
    _, found = checkpoint.restore(tmp_path, {"best": b"", "empty": b"", "step": 0})
    assert found == {"best": b"abc", "empty": b"", "step": 1}
    assert checkpoint.restore(tmp_path, b"", part="['best']")[1] == b"abc"
    with pytest.raises(ValueError, match=r"best.* was saved as bytes"):
        checkpoint.restore(tmp_path, {"best": 1, "empty": b"", "step": 0})


@pytest.mark.slow
def test_a_closed_form_is_trained_judged_and_served_by_the_commands(small, tmp_path, capsys):
    folder = str(tmp_path / "item_mean")
    train = ["train", "--data", str(small), "--method", "item_knn", "--run", folder]
    assert main(train) == 0
    printed = capsys.readouterr().out
    assert "Best validation loss" in printed
    assert "item_knn" in printed
    records = json.loads((tmp_path / "item_mean" / "report.json").read_text())
    kinds = {(row["method"], row["kind"]) for row in records}
    assert ("item_knn", "learned") in kinds
    assert ("item_knn", "baseline") not in kinds
    assert ("two_tower", "baseline") in kinds
    assert main(["recommend", folder, "--ratings", "Film 3=5", "--top", "2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert main([*train, "--updates", "3"]) == 2
    assert "--updates is a setting of training by updates" in capsys.readouterr().err
    assert main(["train", "--resume", folder, "--no-report"]) == 0
    assert "at setting" in capsys.readouterr().out


def of_both(training, *, strength=5.0):
    """Item means, shrunk, and the number of a film's ratings."""
    log, items = training.interactions, len(training.item_features)
    counts = np.bincount(log.item, minlength=items)
    rest = np.bincount(log.item, log.rating - log.rating.mean(), items)
    mean = log.rating.mean() + rest / (counts + strength)
    return {"mean": jnp.float32(mean), "count": jnp.float32(counts), "strength": strength}


LIKES = jnp.array([1.5, -0.5])

BOTH = Baseline(
    "of_both",
    "both",
    of_both,
    Adaptation(
        adapt_to_nothing,
        lambda params, adapted, inputs: params["mean"][inputs.item],
        rank=lambda params, adapted, inputs: params["count"][inputs.item],
    ),
    ({"strength": 5.0}, {"strength": 1.0}),
    kind="learned",
    blend=Blend(
        lambda params: ("likes", "dislikes"),
        lambda params, adapted, inputs: jnp.outer(params["count"][inputs.item], LIKES),
        lambda params: {"any": {"likes": {0: 0.6, 10: 0.75}, "dislikes": {0: -0.4, 10: -0.25}}},
    ),
)


@pytest.mark.parametrize("implicit", [False, True])
def test_a_learned_closed_form_of_ratings_and_an_order_is_trained_judged_and_served(
    implicit, small, tmp_path, monkeypatch, capsys
):
    known = (*registry.all_baselines(), BOTH)
    for module in (registry, tables):
        monkeypatch.setattr(module, "all_baselines", lambda: known)
    data = str(small)
    if implicit:
        data = str(tmp_path / "views.csv")
        seen = [(u, (u * 3 + n * n) % 29) for u in range(40) for n in range(14)]
        rows = [f"u{u},p{i}" for u, i in sorted(set(seen))]
        (tmp_path / "views.csv").write_text("\n".join(["user,item", *rows]) + "\n")
    run, progress = runs.create(tmp_path / "run", settings_for("of_both", data=data), load(data))
    progress, finished = runs.train_run(run, progress)
    assert finished
    params = run.params(progress)
    compared = {method.name for method in tables._baselines(run.users, ["item_knn"], None)[0]}
    assert "popularity" in compared
    assert not {"of_both", "item_knn"} & compared
    scope = judging.Scope(baselines=("popularity",))
    found = judging.judge_run(run, params, scope)
    records = found.records
    page = judging.write_report(run, found, scope).read_text()
    assert "Which experts order the items" in page
    assert "<td>\u221240 %</td><td>\u221225 %</td>" in page
    own = {r.metric: r for r in records if (r.method, r.protocol) == ("of_both", "P1")}
    assert ("rmse" in own) == (not implicit)
    assert own["ndcg@10"].kind == "learned"
    # By `rank`: the counts of the films, which are all that popularity knows, but ties.
    assert own["ndcg@10"].best_baseline == "popularity"
    assert judge(run, scope) == 0
    assert "K=0   likes 60 %, dislikes \u221240 %" in capsys.readouterr().out
    recommender = runs.load(run.folder)
    known = [] if implicit else {}
    (first, second) = runs.recommend(recommender, known, top=2, explain=True)
    assert [name for name, _ in first.experts] == ["likes", "dislikes"]
    assert first.experts[0][1] == pytest.approx(-3 * first.experts[1][1])
    count = np.asarray(params["count"])
    leads = [sum(part for _, part in line.experts) for line in (first, second)]
    np.testing.assert_allclose(leads, np.sort(count)[::-1][:2] - count.mean(), rtol=1e-5)
    place = int(np.flatnonzero(recommender.catalogue.ids == first.item_id)[0])
    assert count[place] == count.max()
    if not implicit:
        assert first.score == pytest.approx(float(params["mean"][place]), abs=1e-5)
