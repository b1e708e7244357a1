import numpy as np
import pytest

from metajax.baselines.choice_factors import choice_factors
from metajax.data.dataset import TrainingSet
from metajax.data.interactions import from_columns, select_rows


@pytest.fixture(scope="module")
def chosen():
    """Thirty users of three kinds who chose some of 12 items; nobody chose the last."""
    rng = np.random.default_rng(0)
    alike = np.arange(30)[:, None] % 3 == np.arange(12) % 3
    dense = rng.random((30, 12)) < np.where(alike, 0.95, 0.05)
    dense[:, -1], dense[:, 0] = False, True
    user, item = np.nonzero(dense)
    ids = np.array([f"u{n:02d}" for n in range(30)]), np.array([f"i{n:02d}" for n in range(12)])
    log = from_columns(user, item, user_ids=ids[0], item_ids=ids[1])
    return TrainingSet(log, np.zeros((30, 0)), np.zeros((12, 0)), None), dense


def test_vectors_span_the_leading_directions_of_the_normalised_choices(chosen):
    training, dense = chosen
    roots = [np.sqrt(np.maximum(dense.sum(axis=axis), 1)) for axis in (1, 0)]
    right = np.linalg.svd(dense / roots[0][:, None] / roots[1])[2][:3]
    vectors, _ = choice_factors(training, width=3, length=0.5)
    expected = 12 * 0.25 * right.T @ right
    # Ten sweeps, each by the square of the ratio of the fourth singular value to the third, .3.
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-5)
    assert np.abs(vectors[-1]).max() == 0


def test_biases_are_log_popularity(chosen):
    training, dense = chosen
    _, bias = choice_factors(training, width=2)
    np.testing.assert_allclose(bias, np.log1p(dense.sum(axis=0)) - np.log(31), rtol=1e-5)
    assert bias.max() == bias[0] == 0


def test_weak_interactions_weigh_less(chosen):
    training, _ = chosen
    log = training.interactions
    weak = log._replace(rating=np.where(log.item == 1, np.float32(0.1), log.rating))
    graded = training._replace(interactions=weak, relevant=1.0)
    before, after = (choice_factors(t, width=1)[0][:, 0] for t in (training, graded))
    assert abs(after[1]) < abs(before[1]) / 2
    assert choice_factors(graded, width=1)[1][1] == np.float32(-np.log(31))


def test_more_directions_than_items_are_zero_and_no_interactions_an_error(chosen):
    training, _ = chosen
    vectors, _ = choice_factors(training, width=15)
    assert vectors.shape == (12, 15)
    assert np.abs(vectors[:, 12:]).max() == 0
    nothing = select_rows(training.interactions, np.zeros(len(training.interactions.item), bool))
    with pytest.raises(ValueError, match="at least one interaction, got none"):
        choice_factors(training._replace(interactions=nothing), width=2)
