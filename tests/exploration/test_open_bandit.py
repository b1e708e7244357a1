import hashlib
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from metajax.data.fetch import DataUnavailable
from metajax.exploration import bernoulli_thompson, evaluate, open_bandit
from metajax.exploration.off_policy import bootstrap_ratio

LOG = (
    ",timestamp,item_id,position,click,propensity_score,user_feature_0,user-item_affinity_0\n"
    "0,2019-11-24 00:00:20,2,3,0,0.25,81ce,0.0\n"
    "1,2019-11-24 00:00:21,0,1,1,0.5,4ae3,0.0\n"
)
PRIOR = """all:
  alpha:
    - 1.0
    - 2.0
    - 3.0
    - 1.0
  beta:
    - 3.0
    - 2.0
    - 1.0
    - 9.0
men:
  alpha:
    - 5.0
  beta:
    - 5.0
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A cache with stand-ins for the files; a function writes one of them."""
    module = __import__("metajax.exploration.open_bandit", fromlist=["_DIGESTS"])
    monkeypatch.setenv("METAJAX_CACHE", str(tmp_path))
    digests = {"random": {}, "bts": {}}
    monkeypatch.setattr(module, "_DIGESTS", digests)

    def write(behaviour: str, name: str, text: str) -> Path:
        path = tmp_path / "open-bandit" / behaviour / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        digests[behaviour][f"somewhere/{name}"] = hashlib.sha256(text.encode()).hexdigest()
        return path

    return write


def test_a_log_is_read_with_its_positions_and_propensities(shop):
    shop("random", "all.csv", LOG)
    log = open_bandit("random", "all")
    assert log.action.tolist() == [2, 0]
    assert log.position.tolist() == [2, 0]
    assert log.reward.tolist() == [0, 1]
    assert log.propensity.tolist() == [0.25, 0.5]
    assert log.context.tolist() == [[0], [1]]
    assert not log.conditional


def test_the_three_positions_share_one_draw(shop):
    shop("bts", "prior_bts.yaml", PRIOR)
    found = bernoulli_thompson("all", draws=20_000)
    np.testing.assert_array_equal(found, bernoulli_thompson("all", draws=20_000))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    # Each item is at one position at most, and of four items one is not shown.
    assert (found.sum(axis=0) <= 1 + 1e-9).all()
    rates = np.random.default_rng(0).beta([1, 2, 3, 1], [3, 2, 1, 9], (20_000, 4))
    order = np.argsort(-rates, axis=1)
    for place in range(3):
        shares = np.bincount(order[:, place], minlength=4) / 20_000
        error = 4 * np.sqrt(2 * shares * (1 - shares) / 20_000)
        assert (np.abs(found[place] - shares) <= error).all()


@pytest.mark.parametrize(
    ("behaviour", "name", "text", "read", "message"),
    [
        ("random", "all.csv", LOG.replace(",0.25,", ",0,"), partial(open_bandit, "random"),
         r"all.csv: propensity must be in \(0, 1\], got 0.0 in row 0"),
        ("random", "all.csv", LOG.replace(",1,1,", ",x,1,"), partial(open_bandit, "random"),
         "all.csv, line 3, column position: not a number: 'x'"),
        ("random", "all.csv", LOG.replace("click", "clicks"), partial(open_bandit, "random"),
         "all.csv: there must be rows, with the columns item_id"),
        ("random", "all.csv", "", partial(open_bandit, "random"), "all.csv: there must be rows"),
        ("bts", "prior_bts.yaml", PRIOR.replace("9.0", "nine"), bernoulli_thompson,
         "prior_bts.yaml, line 11: not a number: '- nine'"),
        ("bts", "prior_bts.yaml", PRIOR.replace("    - 9.0\n", ""), bernoulli_thompson,
         "alpha and beta of all must be as many numbers > 0"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_as_it_should_be_is_refused(shop, behaviour, name, text, read, message):
    shop(behaviour, name, text)
    with pytest.raises(ValueError, match=message):
        read()


def test_there_are_two_behaviours_and_three_campaigns():
    with pytest.raises(ValueError, match="behaviour must be one of random, bts, got 'ts'"):
        open_bandit("ts")  # pyrefly: ignore
    with pytest.raises(ValueError, match="campaign must be one of all, men, women, got 'kids'"):
        bernoulli_thompson("kids")  # pyrefly: ignore
    with pytest.raises(ValueError, match="draws must be >= 1, got 0"):
        bernoulli_thompson("all", draws=0)


@pytest.mark.slow
def test_published_figures_of_the_sample_come_out():
    try:
        log, own = open_bandit("random", "all"), open_bandit("bts", "all")
    except DataUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    # The generator of obp.
    target = bernoulli_thompson("all", random=np.random.RandomState(12345))
    ips, snips = (evaluate(log, target, name) for name in ("ips", "snips"))
    assert ips.value == pytest.approx(0.004553, abs=5e-7)
    assert ips.value / np.mean(log.reward) == pytest.approx(1.1981, abs=5e-5)
    truth, low, high = bootstrap_ratio(own.reward[None], np.ones((1, len(own.reward))))
    assert abs(ips.value / truth[0] - 1) == pytest.approx(0.0840, abs=5e-5)
    assert snips.value == pytest.approx(0.004776, abs=5e-7)
    assert ips.ess == pytest.approx(1640, abs=1)
    # It says by itself how little it rests on.
    assert ips.reward_ess == pytest.approx(4.7, abs=0.1)
    assert "of the value to a side" in ips.notes[-1]
    assert low[0] < ips.value < high[0]
