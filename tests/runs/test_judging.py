import json
import re

import jax
import numpy as np
import pytest

from metajax import locks, registry, runs
from metajax.cli.app import main
from metajax.data import load
from metajax.evaluation import advice as advice_of
from metajax.evaluation import prepare, tables, with_test_users
from metajax.evaluation.evaluate import ConstantPredictionsError, Evaluation, PerUser
from metajax.evaluation.metrics import named
from metajax.evaluation.records import Kind
from metajax.locks import LockedError
from metajax.registry import settings_for
from metajax.runs import judging

FEW = judging.Scope(baselines=("item_mean", "item_user_bias", "popularity"))


@pytest.fixture
def fitted(begin_run, small, tmp_path):
    """A run of one closed form, and its parameters."""
    run, progress = begin_run(tmp_path / "run", settings_for("item_knn", data=str(small)))
    progress, _ = runs.train_run(run, progress)
    return run, run.params(progress)


@pytest.fixture
def tuned(monkeypatch):
    """The names of the baselines that are tuned, in order."""
    names, original = [], tables.tuned

    def noted(baseline, split, **options):
        names.append(baseline.name)
        return original(baseline, split, **options)

    monkeypatch.setattr(tables, "tuned", noted)
    return names


def test_a_stopped_judging_continues_with_what_is_left(fitted, tuned):
    begun = []

    def stop(stage):
        begun.append(stage)
        if len(begun) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judging.judge_run(*fitted, scope=FEW, on_stage=stop)
    assert tuned == begun[:2] == ["item_mean", "item_user_bias"]
    found = judging.judge_run(*fitted, scope=FEW)
    assert tuned == ["item_mean", "item_user_bias", "popularity"]
    assert judging.judge_run(*fitted, scope=FEW) == found
    assert len(tuned) == 3
    assert {r.method for r in found.records if r.kind == "learned"} == {"item_knn"}
    # A damaged file is judged again.
    (file,) = (fitted[0].folder / "judged").glob("*popularity*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert judging.judge_run(*fitted, scope=FEW) == found
    assert tuned[3:] == ["popularity"]


def test_a_run_that_another_process_judges_is_refused(fitted):
    folder = fitted[0].folder / "judged"
    folder.mkdir()
    with locks.locked(folder), pytest.raises(LockedError, match="judged"):
        judging.judge_run(*fitted, scope=FEW)


def test_other_parameters_are_judged_anew(fitted):
    run, params = fitted
    judging.judge_run(run, params, FEW)
    nothing = jax.tree.map(lambda leaf: leaf * 0, params)
    with pytest.raises(ConstantPredictionsError, match="item_knn predicts the same"):
        judging.judge_run(run, nothing, FEW)


@pytest.mark.parametrize(
    "error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory: 9 GB")]
)
def test_a_method_out_of_memory_is_left_out_with_a_note(fitted, monkeypatch, error):
    original = tables.tuned

    def greedy(baseline, split, **options):
        if baseline.name == "item_user_bias":
            raise error
        return original(baseline, split, **options)

    monkeypatch.setattr(tables, "tuned", greedy)
    records, notes, *_ = judging.judge_run(*fitted, scope=FEW)
    assert {r.method for r in records} == {"item_mean", "popularity", "item_knn"}
    (note,) = (note for note in notes if "memory" in note)
    assert note.startswith("Left out: item_user_bias needs more memory than there is: ")
    monkeypatch.undo()
    # It is tried again another time.
    records, notes, *_ = judging.judge_run(*fitted, scope=FEW)
    assert "item_user_bias" in {r.method for r in records}
    assert notes == []


def test_another_error_of_a_device_is_not_taken_for_a_full_memory(fitted, monkeypatch):
    def broken(*_, **__):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(tables, "tuned", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        judging.judge_run(*fitted, scope=FEW)


def test_some_of_the_test_users_have_the_tasks_they_had():
    split = prepare("P1", load("synthetic"), fold=0, seed=0)
    some = with_test_users(split, 30, seed=0)
    assert some.training is split.training
    for panel, tasks in some.test.items():
        whole = split.test[panel]
        assert len(tasks.user) == 30
        assert set(tasks.user) == set(some.fold.test)
        for t, user in enumerate(tasks.user):
            (at,) = np.flatnonzero(whole.user == user)
            for name in ("support_item", "support_rating", "support_mask"):
                np.testing.assert_array_equal(getattr(tasks, name)[t], getattr(whole, name)[at])
            for name in ("query_item", "query_rating"):
                one, other = getattr(tasks, name), getattr(whole, name)
                np.testing.assert_array_equal(
                    one[slice(*tasks.query_offsets[t : t + 2])],
                    other[slice(*whole.query_offsets[at : at + 2])],
                )
    again = with_test_users(split, 30, seed=0).test["random"].user
    np.testing.assert_array_equal(some.test["random"].user, again)
    assert set(again) != set(with_test_users(split, 30, seed=1).test["random"].user)
    assert with_test_users(split, 10**6, seed=0) is split
    with pytest.raises(ValueError, match="users must be >= 1, got 0"):
        with_test_users(split, 0, seed=0)


def test_a_judging_can_be_trimmed_and_the_report_says_so(fitted, capsys):
    folder = str(fitted[0].folder)
    few = ["--baselines", "popularity", "--judge-users", "5"]
    assert main(["evaluate", folder, *few]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(
        r"item_knn (beats|loses to|shows no clear difference from) popularity", printed
    )
    rows = json.loads((fitted[0].folder / "report.json").read_text())
    assert {row["method"] for row in rows} == {"popularity", "item_knn"}
    assert max(row["users"] for row in rows if "users" in row) == 5
    page = re.sub(r"\s+", " ", (fitted[0].folder / "report.html").read_text())
    assert "5 of 8 cold users were judged, drawn by seed 0." in page
    assert "against popularity on these very users" in page
    assert "best simple baseline" not in page
    # Figures of some users are no figures of all.
    assert main(["evaluate", folder, *few[:2]]) == 0
    rows = json.loads((fitted[0].folder / "report.json").read_text())
    assert max(row["users"] for row in rows if "users" in row) == 8
    capsys.readouterr()
    for arguments, words in (
        (["--baselines", "item_men"], "did you mean 'item_mean'"),
        (["--baselines", "maml"], "--baselines must be a known name"),
        (["--judge-users", "0"], "--judge-users must be >= 1, got 0"),
    ):
        assert main(["evaluate", folder, *arguments]) == 2
        assert words in capsys.readouterr().err


def test_the_report_says_what_is_true_of_this_run(fitted, trained, tmp_path):
    page = judging.write_report(fitted[0], judging.judge_run(*fitted, scope=FEW), FEW).read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    grid = len(registry.method_of("item_knn").grid)
    assert f"item_knn chose among the {grid} settings of its grid on the validation users" in text
    assert "early stopping" not in text
    assert registry.description_of("item_knn") in text
    assert registry.description_of("popularity") in text
    assert re.search(r"metajax 0\.\d+\.\d+", text)
    assert re.search(r"judged 20\d\d-\d\d-\d\d \d\d:\d\d UTC", text)
    assert re.search(r"last checkpoint 20\d\d-\d\d-\d\d \d\d:\d\d UTC", text)
    assert "MovieLens" not in text
    opened = runs.open_run(trained[0])
    notes = judging._tuning(opened, [], judging.Scope())
    assert "number of its updates was chosen on the validation users (early stopping)" in notes[0]
    assert len(notes) == 1


def test_advice_names_the_method_with_the_best_figure_and_its_lead(fitted):
    records, _, advice, *_ = judging.judge_run(*fitted, scope=FEW)
    assert [line.partition(":")[0] for line in advice] == [
        "A new user without interactions",
        "A new user with 1 to 5 interactions",
        "A new user with 10 interactions",
    ]
    for line, ks in zip(advice, ([0], [1, 3, 5], [10]), strict=True):
        for metric, words, sign in (("rmse", "ratings", 1), ("ndcg@10", "lists", -1)):
            means = {}
            for record in records:
                if (record.metric, record.order, record.protocol) == (metric, "time", "P1"):
                    means.setdefault(record.method, {})[record.k] = record.mean
            best = min(means, key=lambda m: sign * np.mean([means[m][k] for k in ks]))
            assert f"{words} {best} (" in line
            assert f"{means[best][ks[0]]:.3f}" in line
    assert all("lead over" in line for line in advice)


def test_a_lead_is_clear_where_its_interval_excludes_0():
    """Figures of 200 users of whom the difference is known."""
    split = prepare("P1", load("synthetic"), fold=0, seed=0)
    judged: list[tuple[Kind, dict[str, Evaluation]]] = []
    for name, better in (("worse", 0.0), ("close", 0.0001), ("ahead", 0.5)):
        users = split.test["time"].user
        rng = np.random.default_rng(0)
        errors = rng.uniform(1, 2, (2, len(users))) + rng.normal(0, 0.01, (2, len(users)))
        if name == "close":
            errors += rng.normal(0, 0.3, errors.shape)
        shape = (2, len(users))
        per_user = PerUser(
            users, np.zeros(len(users), np.int32), np.ones(shape, int), np.zeros(shape, bool),
            np.zeros((*shape, 10), np.int32), {"rmse": errors - [[0.0], [better]]},
        )  # fmt: skip
        metrics = (named("rmse"),)
        judged.append(("baseline", {"time": Evaluation(name, (1, 3), 9, metrics, per_user)}))
    (line,) = advice_of(judged)
    assert line.startswith("A new user with 1 to 5 interactions: for predicted ratings ahead (RMSE")
    assert line.endswith("a clear lead over close at K = 3 alone).")
    (line,) = advice_of([judged[0], ("learned", judged[1][1]), judged[2]])
    assert "lead over worse" in line
    (line,) = advice_of(judged[:2])
    assert "no clear lead over" in line
    (line,) = advice_of(judged[:1])
    assert "lead" not in line


def test_examples_are_cold_users_with_what_they_saw_got_and_liked(fitted):
    run, _ = fitted
    found = judging.judge_run(*fitted, scope=FEW)
    assert len(found.examples) == 3
    log, titles = run.dataset.interactions, run.dataset.items.columns["movie_title"]
    cold = {str(log.user_ids[u]) for u in run.users.fold.test}
    for example in found.examples:
        assert example.user in cold
        rows = log.user == list(log.user_ids).index(example.user)
        rated = {str(titles[i]): r for i, r in zip(log.item[rows], log.rating[rows], strict=True)}
        shown = dict(line.rsplit(": ", 1) for line in example.shown)
        assert len(shown) == 5
        assert all(float(rating) == rated[title] for title, rating in shown.items())
        hits = [title for title, liked in example.recommended if liked]
        assert all(rated[title] >= run.dataset.threshold for title in [*hits, *example.liked])
        assert not set(shown) & {title for title, _ in example.recommended}
        assert hits or example.liked


def test_the_page_of_a_closed_form_calls_nothing_learned(fitted):
    page = judging.write_report(fitted[0], judging.judge_run(*fitted, scope=FEW), FEW).read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL))
    assert "Method of this run in colour" in text
    assert "learned" not in text.lower()
