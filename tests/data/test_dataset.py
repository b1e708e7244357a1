from typing import Any

import numpy as np
import pytest

from metajax.baselines.preferences import liked_counts
from metajax.data.cold_users import cold_users
from metajax.data.dataset import (
    Dataset,
    Table,
    graded,
    shapes_of,
    with_relevant,
)
from metajax.data.datasets import load
from metajax.data.interactions import from_columns
from metajax.methods.tasks import ranking_tasks
from metajax.registry import settings_for


def dataset(labels, scale, relevant=None) -> Dataset:
    """Twelve users with two interactions each; their labels repeat the ones given."""
    user = np.repeat(np.arange(12), 2)
    item = np.stack([np.arange(12) % 5, np.arange(12) % 5 + 1], axis=1).ravel()
    ids = np.array([f"u{n:02d}" for n in range(12)]), np.array([f"i{n}" for n in range(6)])
    log = from_columns(user, item, np.resize(labels, 24), user_ids=ids[0], item_ids=ids[1])
    return Dataset("log", log, Table(ids[0], {}, {}), Table(ids[1], {}, {}), scale, relevant)


@pytest.mark.parametrize(
    ("labels", "scale", "implicit"),
    [
        ([1, 5], (1.0, 5.0), False),
        ([0, 1], (0.0, 1.0), False),
        ([1], (0.0, 1.0), True),
        ([4], (1.0, 5.0), True),
        ([1], None, True),
        ([1, 7], None, True),
    ],
)
def test_a_log_is_implicit_without_ratings_and_where_all_are_equal(labels, scale, implicit):
    assert dataset(labels, scale).implicit == implicit


def test_a_relevant_item_is_three_quarters_up_the_scale_or_the_threshold_given():
    assert dataset([1, 5], (1.0, 5.0)).threshold == 4
    assert dataset([1, 5], (1.0, 5.0), 3.0).threshold == 3
    assert dataset([0, 100], (0.0, 100.0)).threshold == 75
    assert dataset([4], (1.0, 5.0)).threshold == -np.inf
    assert dataset([1, 7], None, 5.0).threshold == 5


def test_strengths_are_graded_by_the_threshold():
    def labels(*arguments):
        return graded(dataset(*arguments)).interactions.rating[:3].tolist()

    assert labels([1, 3, 12], None) == [1, 1, 1]
    assert labels([1, 3, 12], None, 6.0) == pytest.approx([1 / 6, 1 / 2, 1])
    assert labels([4], (1.0, 5.0)) == [1, 1, 1]
    assert labels([1, 5, 2], (1.0, 5.0), 2.0) == [1, 5, 2]
    found = graded(dataset([1, 3, 12], None, 6.0))
    assert (found.scale, found.threshold) == (None, 1)
    assert graded(found).interactions.rating.tolist() == found.interactions.rating.tolist()
    with pytest.raises(ValueError, match="log: the strength of an interaction must be above 0, g"):
        graded(dataset([0, 1], None, 1.0))


def test_a_threshold_that_nothing_can_reach_is_refused():
    for data, relevant, message in (
        (dataset([1, 5], (1.0, 5.0)), 6, r"\(--relevant\) must lie in the scale 1 to 5, got 6"),
        (dataset([1, 5], (1.0, 5.0)), 0, r"\(--relevant\) must lie in the scale 1 to 5, got 0"),
        (dataset([1, 7], None), 8, r"above 0 and at most the strongest interaction \(7\), got 8"),
        (dataset([1, 7], None), 0, r"above 0 and at most the strongest interaction \(7\), got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            with_relevant(data, relevant)
    assert with_relevant(dataset([1, 7], None), 7).relevant == 7
    assert with_relevant(dataset([1, 5], (1.0, 5.0), 3.0), None).relevant is None
    assert load("synthetic", relevant=4).threshold == 4


def test_training_sets_and_shapes_carry_the_threshold(small):
    strict = cold_users(load(str(small), relevant=5))
    for threshold, split in ((4, cold_users(load(str(small)))), (5, strict)):
        assert split.training.threshold == split.final.threshold == threshold
        shapes = shapes_of(split.training)
        assert shapes.threshold == threshold
        sample: Any = ranking_tasks(settings_for("maml"), shapes).sample
        assert sample.keywords["relevant"] == threshold
        rating = split.training.interactions.rating
        assert liked_counts(split.training).sum() == np.sum(rating >= threshold)


def test_cold_users_of_an_implicit_log_have_graded_labels():
    split = cold_users(dataset([1, 3, 12], None, 6.0))
    assert set(split.training.interactions.rating.tolist()) <= {np.float32(1 / 6), 0.5, 1.0}
    assert split.test["random"].query_rating.max() <= 1
    assert split.training.threshold == 1
