import json
import re

import numpy as np
import pytest

from metajax.data.cold_users import cold_users
from metajax.data.dataset import Dataset, Table, fingerprint
from metajax.data.datasets import load
from metajax.data.interactions import from_columns
from metajax.data.labels import Labels, check_labels, fit_labels

STARS = np.array([1.0, 2, 2, 3, 3, 3, 4, 4, 5])


def test_a_scale_of_1_to_5_stays_as_it_is_to_the_bit():
    labels = fit_labels(STARS, (1.0, 5.0))
    assert labels == Labels()
    halves = np.random.default_rng(0).uniform(1, 5, 1000)
    assert labels.inside(halves).tolist() == halves.tolist()
    assert labels.outside(halves).tolist() == halves.tolist()


@pytest.mark.parametrize(
    ("unit", "shift"), [(20, 0), (1e6, 0), (1, 1e4), (1, 1e7), (1e-30, 0), (-1, 0), (-20, 1e4)]
)
def test_any_unit_becomes_1_to_5_and_back(unit, shift):
    scale = (unit + shift, 5 * unit + shift)
    labels = fit_labels(unit * STARS + shift, scale)
    found = labels.inside(unit * STARS + shift).astype(np.float32)
    assert found.tolist() == STARS.tolist()
    assert labels.unit == pytest.approx(abs(unit), rel=1e-9)
    np.testing.assert_allclose(labels.outside(STARS), unit * STARS + shift, rtol=1e-12)
    ends = labels.outside(np.array([-3.0, 9.0]))
    assert ends.tolist() == pytest.approx(scale, rel=1e-12)
    assert Labels(**json.loads(json.dumps(labels._asdict()))) == labels


def test_without_a_given_scale_the_ends_are_those_of_the_training_labels():
    seen = np.array([20.0, 40, 60])
    assert fit_labels(seen, (0.0, 100.0), given=False)[:2] == (20, 60)
    assert fit_labels(seen, (100.0, 0.0), given=False)[:2] == (60, 20)
    assert fit_labels(seen, (0.0, 100.0))[:2] == (0, 100)
    # Training labels that are all alike say nothing.
    assert fit_labels(seen[:1], (0.0, 100.0), given=False)[:2] == (0, 100)


def test_labels_that_are_all_alike_are_the_middle():
    assert fit_labels(np.full(4, 7.0), (7.0, 7.0)).inside([7.0]).tolist() == [3]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_few_labels_far_off_do_not_decide_the_unit(sign):
    many = np.tile(STARS, 100)
    far = np.append(many, 1e6)
    ends = (1.0, 1e6) if sign > 0 else (-1e6, -1.0)
    labels = fit_labels(sign * far, ends, given=False)
    expected = fit_labels(many, (1.0, 5.0)).inside(many)
    found = labels.inside(sign * many)
    np.testing.assert_allclose(found if sign > 0 else 6 - found, expected, atol=1e-9)
    # With its order turned round the log is the other way up.
    turned = fit_labels(sign * far, ends[::-1], given=False).inside(sign * many)
    np.testing.assert_allclose(turned, 6 - found, atol=1e-9)
    # One label of few is as far off.
    few = fit_labels(np.append(np.tile(STARS, 6), 1e6), (1.0, 1e6))
    assert few.inside(STARS).tolist() == STARS.tolist()
    # A skewed log is no such case: its rare labels are labels.
    rare = np.append(np.ones(990), np.full(10, 10.0))
    assert fit_labels(rare, (1.0, 10.0)).inside([1.0, 10.0]).tolist() == [1, 5]
    steep = np.append(np.full(980, 9.0), np.arange(1.0, 21.0) / 2)
    assert fit_labels(steep, (0.5, 10.0)).inside([0.5, 10.0]).tolist() == [1, 5]


def test_counts_through_a_logarithm():
    counts = np.array([0.0, 1, 3, 7, 15])
    labels = fit_labels(counts, (0.0, 15.0), transform="log1p")
    np.testing.assert_allclose(labels.inside(counts), [1, 2, 3, 4, 5])
    np.testing.assert_allclose(labels.outside([1, 2, 3, 4, 5]), counts, atol=1e-12)
    assert labels.unit == pytest.approx(15 / 4)
    assert labels.outside([99.0]).tolist() == pytest.approx([15])
    with pytest.raises(ValueError, match=r"log1p needs labels > -1, got a scale that begins at -2"):
        fit_labels(counts - 2, (-2.0, 13.0), transform="log1p")
    with pytest.raises(ValueError, match=r"transform must be a known name, got 'log'"):
        fit_labels(counts, (0.0, 15.0), transform="log")  # pyrefly: ignore


@pytest.mark.parametrize(
    ("far", "message"),
    [
        (1e20, r"^log: ratings reach from 1 to 1e\+20, but nearly all of them from 1 to 5: leav"),
        (-1e20, r"^log: ratings reach from -1e\+20 to 5, but nearly all of them from 1 to 5: le"),
        (1e200, r"^log: ratings must differ by more than 1e-150 and less than 1e\+150, got 1 to"),
    ],
)
def test_labels_that_nothing_can_be_measured_by_are_refused(far, message):
    many = np.tile(STARS, 100)
    with pytest.raises(ValueError, match=message) as caught:
        check_labels(np.append(many, far), name="log")
    assert "\n" not in str(caught.value)
    for fine in (many, many * 1e140, many * 1e-140, np.append(many, 1e8), np.full(3, 1e300), []):
        check_labels(np.asarray(fine))
    with pytest.raises(ValueError, match="1e-160 to 5e-160: give them in another unit"):
        check_labels(many * 1e-160)


def dataset(rating, scale, **options) -> Dataset:
    users = np.repeat(np.arange(20), 12)
    items = np.concatenate([np.random.default_rng(u).permutation(30)[:12] for u in range(20)])
    ids = np.array([f"u{n:02d}" for n in range(20)]), np.array([f"i{n:02d}" for n in range(30)])
    log = from_columns(users, items, rating, user_ids=ids[0], item_ids=ids[1])
    return Dataset("log", log, Table(ids[0], {}, {}), Table(ids[1], {}, {}), scale, **options)


def test_training_and_supports_are_clipped_to_the_bulk_and_queries_are_not():
    rating = np.round(np.random.default_rng(0).uniform(1, 5, 240))
    often = np.where(np.arange(240) % 8, rating, 5000)
    # An eighth is no tail.
    assert cold_users(dataset(often, (1.0, 5000.0))).labels[:4] == (1, 5000, 1, 5000)
    plain = cold_users(dataset(rating, (1.0, 5.0))).test["random"]
    log = dataset(rating, (1.0, 5.0)).interactions
    asked = np.flatnonzero((log.user == plain.user[0]) & (log.item == plain.query_item[0]))
    shown = np.flatnonzero((log.user == plain.user[0]) & (log.item == plain.support_item[0, 0]))
    for row, where in ((0, "training"), (int(asked[0]), "query"), (int(shown[0]), "support")):
        far = log.rating.copy()
        far[row] = 5000
        split = cold_users(dataset(far, (1.0, 5000.0)))
        assert split.labels[:4] == (1, 5000, 1, 5), where
        assert split.labels.outside([5.0, 9.0]).tolist() == [5, 5]
        for part in (split.training, split.final):
            assert part.scale == (1, 5)
            assert set(part.interactions.rating.tolist()) == {1, 2, 3, 4, 5}
        tasks = split.test["random"]
        assert tasks.support_rating.max() == 5
        assert tasks.query_rating.max() == (5000 if where == "query" else 5)


def test_the_threshold_follows_the_labels():
    rng = np.random.default_rng(0)
    data = dataset(20 * np.round(rng.uniform(1, 5, 240)), (20.0, 100.0))
    assert cold_users(data).training.threshold == 4
    strict = cold_users(data._replace(relevant=100.0)).training
    assert strict.threshold == 5
    count = np.sum(strict.interactions.rating >= strict.threshold)
    assert count == np.sum(strict.interactions.rating == 5) > 0


@pytest.mark.parametrize(
    ("relevant", "threshold", "turned"),
    [(None, 4, False), (100.0, 5, False), (40.0, 2, False), (None, 4, True)],
)
def test_the_liked_label_is_the_median_of_the_relevant_of_training_users(
    relevant, threshold, turned
):
    rating = 20 * np.random.default_rng(0).choice(5, 240, p=[0.2, 0.4, 0.2, 0.15, 0.05]) + 20.0
    data = dataset(rating, (20.0, 100.0), relevant=relevant)
    if turned:
        data = dataset(120 - rating, (100.0, 20.0))
    split = cold_users(data)
    seen = split.training.interactions.rating
    assert (
        split.labels.liked == sorted(seen[seen >= threshold])[(np.sum(seen >= threshold) - 1) // 2]
    )
    # Another user's ratings change nothing: none of test users is used.
    log = data.interactions
    others = np.isin(log.user, split.fold.test)
    far = data._replace(interactions=log._replace(rating=np.where(others, 100.0, log.rating)))
    assert cold_users(far).labels.liked == split.labels.liked


def test_an_implicit_log_is_not_mapped():
    split = cold_users(dataset(None, None))
    assert split.labels == Labels()
    assert set(split.training.interactions.rating.tolist()) == {1.0}


def test_labels_keep_their_digits():
    ids = {"user_ids": np.array(["u"]), "item_ids": np.array(["a", "b"])}
    pair = np.array([0, 0]), np.array([0, 1])
    for rating, kind in (([1, 2], np.float32), ([1e7 + 0.3, 2], np.float64), ([1e300, 1], "f8")):
        found = from_columns(*pair, np.array(rating), **ids).rating
        assert found.dtype == kind
        assert found.tolist() == rating


def test_what_the_log_does_not_say_is_in_its_fingerprint(small):
    plain = load(str(small))
    known = fingerprint(plain)
    assert "scale" not in known
    for changed in (
        plain._replace(scale=(0.0, 5.0)),
        plain._replace(scale=(5.0, 1.0)),
        plain._replace(transform="log1p"),
        plain._replace(relevant=3.0),
    ):
        assert fingerprint(changed) != known


def test_a_log_of_counts_is_offered_a_logarithm(tmp_path):
    def notes(labels, **options):
        rows = [f"u{n % 20},i{n // 20},{label}" for n, label in enumerate(labels)]
        (tmp_path / "log.csv").write_text("\n".join(["user,item,rating", *rows]) + "\n")
        return load(str(tmp_path / "log.csv"), **options).notes

    counts = [*np.tile([1, 2, 3, 5], 50), 70000]
    (note,) = notes(counts)
    assert re.search(r"reach to 70000, but nearly all .* to 5: .*--transform log1p.*--relev", note)
    assert notes(counts, transform="log1p") == notes(np.tile([1, 2, 3, 5], 50)) == ()
