import numpy as np
import pytest

from metajax.cross_domain.domains import (
    Domains,
    check_domains,
    domain_logs,
    join_domains,
    random_domains,
    split_domains,
)
from metajax.cross_domain.overlap import read_overlap_list
from metajax.cross_domain.users import PANEL, cross_users
from metajax.data import DataError, TrainingSet, load
from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import from_columns


def dataset(users, items, rows, *, name="a", scale=(1.0, 5.0), item_columns=None) -> Dataset:
    """Rows are (user, item, rating); attributes are one word an item, and nothing of users."""
    user, item, rating = (np.array(column) for column in zip(*rows, strict=True))
    names = [np.array(sorted(ids)) for ids in (users, items)]
    log = from_columns(
        np.searchsorted(names[0], user),
        np.searchsorted(names[1], item),
        rating.astype(float),
        user_ids=names[0],
        item_ids=names[1],
    )
    columns = item_columns or {"genres": np.array([f"g{i}" for i in names[1]])}
    return Dataset(
        name,
        log,
        Table(names[0], {}, {}),
        Table(names[1], columns, dict.fromkeys(columns, "tokens")),
        scale,
    )


def triples(log):
    return {
        (str(log.user_ids[u]), str(log.item_ids[i]), float(r))
        for u, i, r in zip(log.user, log.item, log.rating, strict=True)
    }


BOTH = dataset(
    ["u", "v"],
    ["1", "2", "3", "4"],
    [("u", "1", 1), ("u", "2", 2), ("v", "2", 3), ("v", "3", 4), ("u", "4", 5)],
    item_columns={"genres": np.array(["a b", "c", "a c", "d"])},
)


def test_an_item_belongs_to_a_domain_only_if_it_is_on_one_side():
    pair = split_domains(BOTH, "genres", {"a", "b"}, {"c"})
    assert pair.dataset.items.ids.tolist() == ["1", "2"]
    assert pair.item_domain.tolist() == [0, 1]
    assert triples(pair.dataset.interactions) == {("u", "1", 1), ("u", "2", 2), ("v", "2", 3)}
    assert pair.dataset.items.columns["genres"].tolist() == ["a b", "c"]


def test_an_invalid_split_is_refused():
    with pytest.raises(ValueError, match=r"a column of tokens, one of \['genres'\], got 'year'"):
        split_domains(BOTH, "year", {"a"}, {"c"})
    with pytest.raises(ValueError, match=r"must share no token, got \['a'\] in both"):
        split_domains(BOTH, "genres", {"a"}, {"a", "c"})
    with pytest.raises(ValueError, match="target must have an item of its own, got none of genres"):
        split_domains(BOTH, "genres", {"a"}, {"z"})


SOURCE = dataset(["u", "v"], ["1", "2"], [("u", "1", 0), ("v", "2", 10)], scale=(0.0, 10.0))
TARGET = dataset(["v", "w"], ["1", "3"], [("v", "1", 4), ("w", "3", 1)], name="b")


def test_joined_domains_share_users_by_name_and_keep_items_apart():
    pair = join_domains(SOURCE, TARGET, rescale=True)
    assert triples(pair.dataset.interactions) == {
        ("u", "source:1", 1),
        ("v", "source:2", 5),
        ("v", "target:1", 4),
        ("w", "target:3", 1),
    }
    domain = dict(zip(pair.dataset.items.ids.tolist(), pair.item_domain.tolist(), strict=True))
    assert domain == {"source:1": 0, "source:2": 0, "target:1": 1, "target:3": 1}
    words = pair.dataset.items.columns["genres"].tolist()
    assert words == ["g1", "g2", "g1", "g3"]
    assert pair.dataset.scale == (1.0, 5.0)


def test_ratings_are_rescaled_linearly_from_end_to_end():
    source = dataset(["u", "v"], ["1", "2"], [("u", "1", 2), ("v", "2", 4)], scale=(2.0, 10.0))
    log = join_domains(source, TARGET, rescale=True).dataset.interactions
    assert {("u", "source:1", 1.0), ("v", "source:2", 2.0)} < triples(log)


def test_users_of_unmatched_domains_are_all_different():
    pair = join_domains(SOURCE, TARGET, matched=False, rescale=True)
    assert pair.dataset.users.ids.tolist() == ["source:u", "source:v", "target:v", "target:w"]


def test_users_of_a_list_are_one_person_and_all_others_two():
    by_id = join_domains(SOURCE, TARGET, overlap_list=["v"], rescale=True)
    assert by_id.dataset.users.ids.tolist() == ["source:u", "target:v", "target:w"]
    by_pair = join_domains(SOURCE, TARGET, overlap_list=[("u", "w")], rescale=True)
    assert triples(by_pair.dataset.interactions) == {
        ("target:w", "source:1", 1),
        ("source:v", "source:2", 5),
        ("target:v", "target:1", 4),
        ("target:w", "target:3", 1),
    }


def test_a_malformed_overlap_list_is_refused():
    def joined(overlap_list, **options):
        return join_domains(SOURCE, TARGET, overlap_list=overlap_list, rescale=True, **options)

    new_users = [(f"x{n}", "v") for n in range(7)]
    with pytest.raises(
        ValueError,
        match=r"users of the source, got 7 unknown: 'x0', 'x1', 'x2', 'x3', 'x4', \.\.\.$",
    ):
        joined(new_users)
    with pytest.raises(ValueError, match=r"must name users of the target, got 1 unknown: 'u'\.$"):
        joined(np.array(["u"]))
    with pytest.raises(ValueError, match="must name a target user once, got 'v' twice"):
        joined([("u", "v"), ("v", "v")])
    with pytest.raises(ValueError, match=r"must be ids or pairs of ids, got shape \(1, 3\)"):
        joined([("u", "v", "w")])
    with pytest.raises(ValueError, match="matched must be True where an overlap_list is given"):
        joined(["v"], matched=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v\n\nw\n", [("v", "v"), ("w", "w")]),
        ("user_id\nv\n", [("v", "v")]),
        ("source,target\nu,w\n", [("u", "w")]),
        ('"a, b",w\n', [("a, b", "w")]),
        ("source\ttarget\nu\tw\n", [("u", "w")]),
    ],
)
def test_a_list_is_read_from_a_file(tmp_path, text, expected):
    (tmp_path / "list.csv").write_text(text)
    assert read_overlap_list(tmp_path / "list.csv") == expected


def test_a_file_that_is_no_list_is_refused_with_its_line(tmp_path):
    path = tmp_path / "list.csv"
    for text, message in (
        ("u\nu,v,w\n", "line 2: a line must hold one user id or two"),
        ("u,\n", "line 1: a line must hold one user id or two"),
        ("user_id\n", "the list must name a user, got none"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_overlap_list(path)


def test_domains_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"must share a scale, got \(0.0, 10.0\) and \(1.0, 5.0\)"):
        join_domains(SOURCE, TARGET)
    new_user = dataset(["x"], ["1"], [("x", "1", 4)])
    with pytest.raises(
        ValueError,
        match="must share users to be matched, got ids like 'v' and 'x': list matching users",
    ):
        join_domains(TARGET, new_user)
    numbered = TARGET._replace(users=TARGET.users._replace(ids=np.array([7, 8])))
    with pytest.raises(
        ValueError, match="must have ids of one type to be matched, got text and num"
    ):
        join_domains(TARGET, numbered)
    years = dataset(["x"], ["1"], [("x", "1", 4)], item_columns={"year": np.array(["1999"])})
    with pytest.raises(
        ValueError,
        match=r"must share users or a column of attributes, got the columns genres and year\.",
    ):
        join_domains(TARGET, years, matched=False)
    number = TARGET._replace(items=TARGET.items._replace(kinds={"genres": "numeric"}))
    with pytest.raises(ValueError, match="'genres' must be of one kind in both domains, got tok"):
        join_domains(SOURCE, number, rescale=True)
    with pytest.raises(ValueError, match="must both have ratings, or neither, and b has none"):
        join_domains(SOURCE, TARGET._replace(scale=None))


def test_a_training_set_falls_apart_into_its_domains():
    pair = split_domains(BOTH, "genres", {"a", "b"}, {"c"})
    log, blank = pair.dataset.interactions, np.zeros((2, 0), np.float32)
    training = TrainingSet(log, blank, blank, BOTH.scale, item_domain=pair.item_domain)
    source, target = domain_logs(training)
    assert triples(source) == {("u", "1", 1)}
    assert triples(target) == {("u", "2", 2), ("v", "2", 3)}
    assert source.user_ids is target.user_ids is log.user_ids
    for refuse in (check_domains, domain_logs):
        with pytest.raises(ValueError, match="must have two domains, got no item_domain"):
            refuse(training._replace(item_domain=None))


@pytest.fixture(scope="module")
def pair() -> Domains:
    return random_domains(load("synthetic"), seed=1)


def of_users(log, users):
    kept = np.isin(log.user, users)
    return {(u, i) for u, i in zip(log.user[kept], log.item[kept], strict=True)}


def test_all_of_the_source_and_some_of_the_target_are_shown(pair):
    log, split = pair.dataset.interactions, cross_users(pair, least=8)
    for tasks in (split.validation[PANEL], split.test[PANEL]):
        for t, user in enumerate(tasks.user):
            own = {i: r for (u, i), r in zip(
                zip(log.user, log.item, strict=True), log.rating, strict=True
            ) if u == user}  # fmt: skip
            shown = tasks.support_item[t][tasks.support_mask[t]]
            source, target = (
                tasks.support_item[t][part][tasks.support_mask[t][part]]
                for part in (slice(None, tasks.given), slice(tasks.given, None))
            )
            assert set(source.tolist()) == {i for i in own if pair.item_domain[i] == 0}
            assert pair.item_domain[target].tolist() == [1] * 5
            queried = slice(*tasks.query_offsets[t : t + 2])
            items = tasks.query_item[queried].tolist()
            assert set(items) == set(own) - set(shown.tolist())
            labels = split.labels.inside([own[i] for i in items]).astype(np.float32)
            assert labels.tolist() == tasks.query_rating[queried].tolist()
    # Test users are in no training set, of either domain.
    assert not of_users(split.training.interactions, split.fold.validation)
    assert not of_users(split.final.interactions, split.fold.test)


def test_all_other_users_train_with_all_their_rows(pair):
    """Users with too few rows to be tested too; the final set adds those of validation."""
    log, split = pair.dataset.interactions, cross_users(pair, least=12)
    fold = split.fold
    assert len(np.setdiff1d(log.users, np.concatenate(fold))) > 10
    for found, held_out in (
        (split.training.interactions, np.concatenate([fold.validation, fold.test])),
        (split.final.interactions, fold.test),
    ):
        users = np.setdiff1d(log.users, held_out)
        np.testing.assert_array_equal(found.users, users)
        assert of_users(found, users) == of_users(log, users)


def test_without_overlap_no_training_user_is_in_both_domains(pair):
    users = len(pair.dataset.interactions.user_ids)
    for overlap, least, most in ((1.0, 1.0, 1.0), (0.5, 0.3, 0.7), (0.0, 0.0, 0.0)):
        log = cross_users(pair, overlap=overlap).training.interactions
        user, target = log.user, pair.item_domain[log.item] == 1
        sides = [set(user[target == side].tolist()) for side in (False, True)]
        people = {u % users for u in sides[0]} & {u % users for u in sides[1]}
        assert least <= len(sides[0] & sides[1]) / len(people) <= most
        whole = cross_users(pair).training.interactions
        assert len(log.item) == len(whole.item)
    # The same person has the same attributes under both names.
    features = cross_users(pair).training.user_features
    np.testing.assert_array_equal(features[:users], features[users:])


def test_without_common_users_users_of_the_target_are_tested(pair):
    log, target = pair.dataset.interactions, pair.item_domain[pair.dataset.interactions.item] == 1
    users = len(log.user_ids)
    # Every user is two unlinked ones.
    apart = from_columns(
        log.user + users * target,
        log.item,
        log.rating,
        user_ids=np.array([f"{n:05d}" for n in range(2 * users)]),
        item_ids=log.item_ids,
    )
    table = pair.dataset.users
    table = Table(apart.user_ids, {n: np.tile(c, 2) for n, c in table.columns.items()}, table.kinds)
    split = cross_users(
        pair._replace(dataset=pair.dataset._replace(interactions=apart, users=table))
    )
    tasks = split.test[PANEL]
    assert len(tasks.user) > 10
    assert (tasks.user >= users).all()
    assert not tasks.support_mask[:, : tasks.given].any()
    assert (tasks.support_mask[:, tasks.given :].sum(axis=1) == 5).all()


def test_the_negative_control_permutes_source_histories(pair):
    plain, mixed = cross_users(pair), cross_users(pair, shuffled=True)
    assert plain.fold.test.tolist() == mixed.fold.test.tolist()
    given = plain.test[PANEL].given
    for a, b in ((plain.test[PANEL], mixed.test[PANEL]),):
        np.testing.assert_array_equal(a.query_item, b.query_item)
        np.testing.assert_array_equal(a.support_item[:, given:], b.support_item[:, given:])
        sources = [[tuple(sorted(row[:given])) for row in x.support_item] for x in (a, b)]
        assert sorted(sources[0]) == sorted(sources[1])
        assert all(one != other for one, other in zip(*sources, strict=True))
    # Nor do training users have their own, even those with too few rows to be tested.
    mixed = cross_users(pair, shuffled=True, least=12)
    log = pair.dataset.interactions
    others = np.setdiff1d(log.user, np.concatenate(mixed.fold))
    assert len(others) > 10
    for user in others:
        before, after = (
            {int(i) for u, i in of_users(x, [user]) if pair.item_domain[i] == 0}
            for x in (log, mixed.training.interactions)
        )
        assert before != after or not before


def test_bad_arguments_are_named(pair):
    with pytest.raises(ValueError, match=r"fold must be in \[0, 5\), got 5"):
        cross_users(pair, fold=5)
    with pytest.raises(ValueError, match=r"overlap must be in \[0, 1\], got 1.5"):
        cross_users(pair, overlap=1.5)
    with pytest.raises(ValueError, match="least must be > 5"):
        cross_users(pair, least=5)
    with pytest.raises(ValueError, match="data must have 10 users with 10 interactions in both"):
        cross_users(split_domains(BOTH, "genres", {"a", "b"}, {"c"}))
