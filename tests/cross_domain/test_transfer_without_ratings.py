"""Two logs without ratings, from the files to the lists: clicks on books, then on films."""

import json
from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np
import pytest

from metajax import baselines, cli, evaluation, registry, runs
from metajax.cli.sources import ACROSS as ACROSS_BY_DEFAULT
from metajax.cli.sources import LISTED_ACROSS
from metajax.cli.train import suited
from metajax.cross_domain import DomainPair, Domains, load_domains
from metajax.cross_domain.tasks import cross_table
from metajax.cross_domain.users import HISTORY, PANEL, cross_users
from metajax.data.dataset import shapes_of
from metajax.data.interactions import from_columns
from metajax.evaluation.tuning import trained, tuned

USERS, ITEMS = 100, 24
NAMED = {baseline.name: baseline for baseline in registry.all_baselines()}

# By name of what needs two domains, whether it needs ratings.
ACROSS = {
    "adversarial": True,
    "content_adapter": True,
    "content_fold_in": True,
    "distilled": True,
    "emcdr": True,
    "emcdr_linear": True,
    "informed_ridge": True,
    "joint_fold_in": True,
    "joint_ridge": True,
    "linear_map": True,
    "meta_transfer": True,
    "parameter_transfer": True,
    "relation_transfer": True,
    "shared_and_private": True,
    "shared_graph": True,
    "shared_space": True,
    "target_only": True,
    "target_only_ease": False,
    "target_only_item_knn": False,
}


def clicks(seed: int) -> list[tuple[int, int]]:
    """Pairs of user and item; even users prefer even items, and low numbers are popular."""
    rng = np.random.default_rng(seed)
    found = []
    for u in range(USERS):
        odds = np.where(np.arange(ITEMS) % 2 == u % 2, 3.0, 0.0) - np.arange(ITEMS) / ITEMS
        chosen = np.argsort(-odds - rng.gumbel(size=ITEMS))[: rng.integers(12, 15)]
        found += [(u, int(i)) for i in chosen]
    return found


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("clicks")
    places = []
    for seed, name in enumerate(("books", "films")):
        rows = [f"u{u},{name[0]}{i},{1 + (u + i) % 3}" for u, i in clicks(seed)]
        path = folder / f"{name}.csv"
        path.write_text("\n".join(["user,item,times", *rows]) + "\n")
        places.append(str(path))
    return places


def pair_of(paths: list[str], **more) -> DomainPair:
    return DomainPair(source=paths[0], target=paths[1], **more)


@pytest.fixture(scope="module")
def domains(paths) -> Domains:
    return load_domains(pair_of(paths), {"ignore": ("times",)})


@pytest.fixture(scope="module")
def split(domains):
    return cross_users(domains)


@pytest.fixture
def run(capsys) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def test_lists_are_of_the_items_of_the_target(split):
    assert split.ranked
    in_target = split.training.item_domain == 1
    for tasks in (split.validation[PANEL], split.test[PANEL]):
        assert (tasks.candidates == in_target).all()
        assert in_target[tasks.query_item].all()
        assert (tasks.query_rating == 1).all()
        assert not in_target[tasks.support_item[:, :HISTORY][tasks.support_mask[:, :HISTORY]]].any()
    method = tuned(baselines.popularity, split, trials=1)[PANEL]
    judged = evaluation.judge(method, split, PANEL)
    assert in_target[judged.per_user.top_items].all()
    assert set(np.diff(np.sort(judged.per_user.top_items)).ravel()) != {0}


def ndcg(method: str, split) -> np.ndarray:
    fitted = tuned(NAMED[method], split)[PANEL]
    return evaluation.summarise(evaluation.judge(fitted, split, PANEL))["ndcg@10"]


def test_the_source_says_what_new_users_of_the_target_like(domains, split):
    for rule in ("item_knn", "ease"):
        across, alone = ndcg(rule, split), ndcg(f"target_only_{rule}", split)
        assert across[0] > alone[0] + 0.1
        # With a source of somebody else there is nothing to gain.
        other = ndcg(rule, cross_users(domains, shuffled=True))
        assert other[0] < alone[0] + 0.03
    # Without interactions only popularity is known, of the target.
    assert ndcg("target_only_item_knn", split)[0] == ndcg("popularity", split)[0]


@pytest.mark.parametrize("method", ["ease", "item_knn", "graph_filter", "target_only_ease"])
def test_what_test_users_are_asked_for_changes_no_prediction(domains, split, method):
    """Half of the queries are deleted, and the strengths of the others are noise."""
    log, tasks = domains.dataset.interactions, split.test[PANEL]
    asked = {
        (int(user), int(item))
        for t, user in enumerate(tasks.user)
        for item in tasks.query_item[slice(*tasks.query_offsets[t : t + 2])]
    }
    rng = np.random.default_rng(0)
    rows = zip(log.user.tolist(), log.item.tolist(), strict=True)
    of_query = np.array([row in asked for row in rows])
    assert of_query.sum() > 100
    noise = np.where(of_query, rng.integers(1, 9, len(log.item)), log.rating)
    kept = np.ones(len(of_query), bool)
    for t, user in enumerate(tasks.user):
        items = tasks.query_item[slice(*tasks.query_offsets[t : t + 2])]
        kept &= ~((log.user == user) & np.isin(log.item, rng.permutation(items)[: len(items) - 5]))
    assert kept.sum() < len(kept)
    ruined = from_columns(
        log.user[kept], log.item[kept], noise[kept],
        user_ids=log.user_ids, item_ids=log.item_ids,
    )  # fmt: skip
    other = cross_users(domains._replace(dataset=domains.dataset._replace(interactions=ruined)))
    lists = []
    for one in (split, other):
        fitted = tuned(NAMED[method], one)[PANEL]
        lists.append(evaluation.judge(fitted, one, PANEL).per_user)
    np.testing.assert_array_equal(lists[0].user, lists[1].user)
    np.testing.assert_array_equal(lists[0].top_items, lists[1].top_items)


def test_training_lists_are_of_the_target_and_supports_hold_the_source(split):
    training = split.training
    log, in_target = training.interactions, training.item_domain == 1
    own = {u: set(log.item[log.user == u].tolist()) for u in log.users.tolist()}
    for objective in ("ndcg", "sampled_ranking", "bpr"):
        settings = registry.settings_for("maml", objective=objective, tasks=16, negatives=20)
        sampler = registry.sampler_of(settings, shapes_of(training))
        table = cross_table(training)
        tasks = jax.tree.map(np.asarray, jax.jit(sampler.sample)(table, jax.random.key(0)))
        sizes = set()
        for t in range(16):
            support, query = (jax.tree.map(lambda leaf, t=t: leaf[t], part) for part in tasks)
            shown = support.inputs.item[support.mask].tolist()
            source = {i for i in shown if not in_target[i]}
            sizes.add(len(shown) - len(source))
            listed = query.inputs.item[query.mask]
            assert in_target[listed].all()
            assert not set(listed.tolist()) & set(shown)
            liked = set(listed[query.labels[query.mask] > 0].tolist())
            # Somebody has exactly this source, and met what is shown and what is asked for.
            assert any(
                {i for i in items if not in_target[i]} == source and {*shown, *liked} <= items
                for items in own.values()
            )
            assert liked
            if objective == "ndcg":
                assert len(query.mask) == ITEMS
        assert {0, 5} <= sizes <= set(range(6))
        if objective == "sampled_ranking":
            expected_draws = tasks.query.labels[:, settings.query :]
            np.testing.assert_allclose(expected_draws, -20 / ITEMS, rtol=2e-7)


def test_what_needs_ratings_is_refused_by_name(domains, paths, tmp_path):
    of_two = (*registry.all_baselines(), *registry.all_methods())
    assert {m.name: m.needs_ratings for m in of_two if m.two_domains} == ACROSS
    for name in [name for name, needs_ratings in ACROSS.items() if needs_ratings]:
        with pytest.raises(ValueError, match=f"method '{name}' needs ratings, and .* has none: "):
            runs.create(tmp_path / "run", registry.settings_for(name), domains, pair_of(paths))
    assert not (tmp_path / "run").exists()


def test_the_method_is_chosen_by_what_the_logs_have(domains):
    plain = registry.settings_for(ACROSS_BY_DEFAULT)
    chosen = suited(replace(plain, seed=3), domains.dataset)
    assert not registry.method_of(chosen.method).needs_ratings
    assert (chosen.method, chosen.seed) == (LISTED_ACROSS, 3)
    # Settings of updates are of a method that is trained by them.
    chosen = suited(replace(plain, updates=30), domains.dataset)
    assert (chosen.method, chosen.updates) == ("attentive_neighbours", 30)
    rated = domains.dataset._replace(scale=(0.5, 5.0))
    log = rated.interactions
    rated = rated._replace(interactions=log._replace(rating=np.float32(1 + log.item % 2)))
    assert suited(plain, rated) == plain


def test_a_trained_method_learns_an_order(domains, split):
    settings = registry.settings_for(
        "maml", width=4, embedding=2, rank=2, updates=4, tasks=4, per_dispatch=2, validate_every=2
    )
    settings = registry.settings_on(settings, domains.dataset)
    assert settings.objective == "ndcg"
    found = trained(registry.trained_method_of("maml"), split, settings, trials=1, refit=False)
    figures = evaluation.summarise(evaluation.judge(found[PANEL], split, PANEL))
    assert np.isfinite(figures["ndcg@10"]).all()
    assert "rmse" not in figures


def test_a_comparison_across_domains_without_ratings_judges_lists(domains):
    found = evaluation.compare(
        domains.dataset,
        ["popularity", "random", "item_knn", "target_only_item_knn"],
        protocols={"linked": evaluation.cross_domain(domains)},
        folds=[0],
    )
    at_none = {
        r.method: r for r in found.records
        if (r.metric, r.k, r.protocol) == ("ndcg@10", 0, "linked")
    }  # fmt: skip
    assert at_none["item_knn"].no_transfer in ("popularity", "target_only_item_knn")
    low = at_none["item_knn"].no_transfer_difference_low
    assert low is not None
    assert low > 0
    assert not found.notes


def test_domains_with_and_without_ratings_are_refused_in_one_line(paths, run, tmp_path):
    rated = tmp_path / "rated.csv"
    rows, times = [f"u{u},b{i},{1 + (u + i) % 5}" for u, i in clicks(0)], {"ignore": ("times",)}
    rated.write_text("\n".join(["user,item,rating", *rows]) + "\n")
    words = ["transfer", "--source", rated, "--target", paths[1], "--target.ignore=times"]
    status, _, err = run(*words)
    assert status == 2
    (line,) = [line for line in err.splitlines() if not line.endswith(" ...")]
    assert f"must both have ratings, or neither, and {paths[1]} has none" in line
    # As the line says, good ratings may count as clicks.
    reading = {"ignore": ("rating",), "drop": ("rating<3",)}
    pair = pair_of([str(rated), paths[1]], source_reading=reading, target_reading=times)
    joined = load_domains(pair, {})
    assert joined.dataset.implicit
    of_source = joined.item_domain[joined.dataset.interactions.item] == 0
    assert of_source.sum() == sum((u + i) % 5 >= 2 for u, i in clicks(0))
    # Ratings that are all the same are none.
    rated.write_text("user,item,rating\n" + "".join(f"u{u},b{i},3\n" for u, i in clicks(0)))
    same = load_domains(pair_of([str(rated), paths[1]], target_reading=times), {})
    assert same.dataset.scale is None
    assert set(same.dataset.interactions.rating.tolist()) == {1.0}


def test_counts_and_a_threshold_are_of_both_domains(paths):
    domains = load_domains(pair_of(paths), {"count_column": "times", "relevant": 2})
    split = cross_users(domains)
    assert set(np.unique(split.training.interactions.rating)) == {np.float32(0.5), np.float32(1)}
    assert set(np.unique(split.test[PANEL].query_rating)) == {np.float32(0.5), np.float32(1)}
    assert (ndcg("item_knn", split) < 1).all()


@pytest.mark.parametrize("counted", ["source", "target"])
def test_counts_of_one_domain_alone_are_not_used_and_a_line_says_so(paths, run, tmp_path, counted):
    plain = "target" if counted == "source" else "source"
    words = [
        "transfer", "--source", paths[0], "--target", paths[1], f"--{counted}.count-column=times",
        f"--{plain}.ignore=times", "--method=item_knn", "--no-report",
    ]  # fmt: skip
    status, _, err = run(*words, "--run", tmp_path / "run")
    assert status == 0, err
    (line,) = [line for line in err.splitlines() if "counts or weights" in line]
    names = dict(zip(("source", "target"), paths, strict=True))
    assert f"note: {names[counted]}: its counts or weights are not used, because " in line
    assert f"because {names[plain]} has none" in line
    assert set(runs.open_run(tmp_path / "run").dataset.interactions.rating.tolist()) == {1.0}
    # A threshold would leave nothing of the other domain.
    status, _, err = run(*words, "--relevant=2", "--run", tmp_path / "other")
    assert status == 2
    (line,) = [line for line in err.splitlines() if not line.endswith(" ...")]
    assert f"interactions of both logs reach, and the strongest of {names[plain]} is 1" in line
    assert f"--{counted}.drop 'rating<2' leaves out" in line
    # As the line says.
    reading = {
        f"{counted}_reading": {"count_column": "times", "drop": ("rating<2",)},
        f"{plain}_reading": {"ignore": ("times",)},
    }
    dropped = load_domains(pair_of(paths, **reading), {})
    assert set(dropped.dataset.interactions.rating.tolist()) == {1.0}
    whole = load_domains(pair_of(paths), {"ignore": ("times",)})
    assert 0 < len(dropped.dataset.interactions.item) < len(whole.dataset.interactions.item)


def test_a_run_on_clicks_recommends_items_of_the_target(paths, run, tmp_path):
    words = ["transfer", "--source", paths[0], "--target", paths[1], "--ignore=times"]
    status, out, err = run(*words, "--method=item_knn", "--no-report", "--run", tmp_path / "run")
    assert status == 0, err
    assert "Best validation loss" in out
    items = "b0, b2, source:b4, b6, source:b8"
    status, out, err = run("recommend", tmp_path / "run", "--items", items, "--json", "--top=6")
    assert status == 0, err
    found = [line["id"] for line in json.loads(out)]
    assert {name.partition(":")[0] for name in found} == {"target"}
    assert sum(int(name.partition("f")[2]) % 2 == 0 for name in found) >= 5
    status, _, err = run(*words, "--method=informed_ridge", "--run", tmp_path / "other")
    assert status == 2
    assert "method 'informed_ridge' needs ratings, and" in err


@pytest.mark.slow
def test_clicks_are_transferred_from_the_files_to_the_report(paths, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["transfer", "--source", paths[0], "--target", paths[1], "--ignore=times", "--quick"]
    status, out, err = run(*words)
    assert status == 0, err
    assert "NDCG@10, new to the target, protocol transfer" in out
    assert "RMSE" not in out
    folder = tmp_path / "runs" / "films-transfer"
    page = (folder / "report.html").read_text()
    assert "every item that a user met is relevant" in page
    assert "of the source" in page
    records = json.loads((folder / "report.json").read_text())
    judged = {r["method"] for r in records}
    assert {"popularity", "item_knn", "target_only_ease", "target_only_item_knn"} <= judged
    assert not {name for name in judged if registry.method_of(name).needs_ratings}
    best = {r["method"]: r for r in records if (r["metric"], r["k"]) == ("ndcg@10", 0)}
    method = runs.settings_of(folder).method
    assert best[method]["no_transfer_difference_low"] > 0
