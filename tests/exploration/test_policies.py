import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metajax import exploration
from metajax.exploration import (
    Beliefs,
    beta_thompson,
    epsilon_greedy,
    linear_thompson,
    reserved_slots,
    softmax,
    thompson,
    ucb_bounds,
)
from metajax.exploration.policies import POLICIES, ucb1_bounds

N, K, LISTS = 5, 2, 4000
BELIEFS = Beliefs(
    mean=jnp.array([0.3, 0.45, 0.5, 0.4, 0.9]),
    variance=jnp.array([0.04, 0.01, 0.01, 0.02, 0.04]),
    root=jnp.array([[0.2, 0.1], [0.1, -0.2], [0.0, 0.2], [0.3, 0.1], [0.5, 0.5]]),
    count=jnp.array([3.0, 9.0, 12.0, 4.0, 2.0]),
    popularity=jnp.array([4.0, 0.0, 1.0, 2.0, 9.0]),
)
# The best item may not be shown.
MASK = jnp.array([True, True, True, True, False])

# A new policy is a row here, with its settings.
ROWS = {
    "greedy": ("greedy", {}),
    "epsilon_greedy": ("epsilon_greedy", {"epsilon": 0.3}),
    "epsilon_popular": ("epsilon_greedy", {"epsilon": 0.6, "explore": "popularity"}),
    "always_explores": ("epsilon_greedy", {"epsilon": 1.0}),
    "softmax": ("softmax", {"temperature": 0.1}),
    "ucb": ("ucb", {}),
    "ucb1": ("ucb1", {}),
    "thompson": ("thompson", {"draws": LISTS}),
    "beta_thompson": ("beta_thompson", {"draws": LISTS}),
    "linear_ucb": ("linear_ucb", {}),
    "linear_thompson": ("linear_thompson", {"draws": LISTS}),
}
FIXED = {"greedy", "ucb", "ucb1", "linear_ucb"}
conformance = pytest.mark.parametrize("row", ROWS)


@functools.cache
def policy_in(row, **settings):
    name, own = ROWS[row]
    return POLICIES[name](k=K, **{**own, **settings})


@functools.cache
def compiled(row, part="show", **settings):
    return jax.jit(getattr(policy_in(row, **settings), part))


@functools.cache
def many(row):
    """Lists under many keys; of policies of draws without their propensities."""
    draws = {"draws": 1} if "draws" in ROWS[row][1] else {}
    show = jax.vmap(policy_in(row, **draws).show, in_axes=(None, None, 0))
    slates = jax.jit(show)(BELIEFS, MASK, jax.random.split(jax.random.key(7), LISTS))
    return np.asarray(slates.items)


def test_every_policy_of_the_table_has_a_row():
    assert {name for name, _ in ROWS.values()} == set(POLICIES)


@conformance
def test_propensities_sum_to_one_over_what_may_be_shown(row):
    key = jax.random.key(0)
    slate = compiled(row)(BELIEFS, MASK, key)
    table = compiled(row, "propensities")(BELIEFS, MASK, slate.items, key)
    np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-6)
    assert (table[:, 4] == 0).all()
    assert (table >= 0).all()
    if policy_in(row).conditional:
        assert table[1, slate.items[0]] == 0  # An item has one position.
        assert (slate.standard_error == 0).all()
    else:
        assert (slate.standard_error > 0).all()
    np.testing.assert_allclose(slate.propensity, table[jnp.arange(K), slate.items], rtol=1e-6)
    assert slate.items.dtype == jnp.int32
    assert slate.shown.dtype == bool


@conformance
def test_empirical_frequencies_are_the_propensities(row):
    lists = many(row)
    table = compiled(row, "propensities")
    if policy_in(row).conditional:
        # All lists of the small catalogue, each with the product over its positions.
        every = np.array(list(itertools.permutations(range(N), K)))
        chances = np.asarray(jax.vmap(lambda items: table(BELIEFS, MASK, items, None))(every))
        expected = chances[range(len(every)), 0, every[:, 0]]
        expected = expected * chances[range(len(every)), 1, every[:, 1]]
        shares = np.array([(lists == one).all(axis=1).mean() for one in every])
        variance = expected * (1 - expected) / LISTS
    else:
        expected = table(BELIEFS, MASK, jnp.array(lists[0]), jax.random.key(1)).ravel()
        shares = np.array([(lists[:, j] == i).mean() for j in range(K) for i in range(N)])
        variance = 2 * expected * (1 - expected) / LISTS
    np.testing.assert_allclose(np.sum(expected), 1 if policy_in(row).conditional else K, rtol=1e-5)
    # One list in either where it may be that none came.
    error = 4 * np.sqrt(np.maximum(variance, 0)) + np.where(expected > 0, 1 / LISTS, 0)
    assert (np.abs(shares - expected) <= error).all()


@conformance
def test_a_key_determines_the_list(row):
    key = jax.random.key(3)
    once, again = compiled(row)(BELIEFS, MASK, key), compiled(row)(BELIEFS, MASK, key)
    jax.tree.map(np.testing.assert_array_equal, once, again)
    assert (len(np.unique(many(row), axis=0)) == 1) == (row in FIXED)


@conformance
def test_masked_items_are_never_shown_whatever_they_hold(row):
    assert set(np.unique(many(row))) <= {0, 1, 2, 3}
    hidden = jax.tree.map(lambda leaf: leaf.at[4].set(jnp.nan), BELIEFS)
    keys = jax.random.split(jax.random.key(3), 2)
    for key in keys:
        expected, slate = compiled(row)(BELIEFS, MASK, key), compiled(row)(hidden, MASK, key)
        if row != "ucb1":  # Its t counts hidden items too.
            np.testing.assert_array_equal(slate.items, expected.items)
        assert np.isfinite(slate.propensity).all()
    # Compiled, an item without a finite mean is no item.
    holey = BELIEFS._replace(mean=BELIEFS.mean.at[2].set(jnp.nan))
    assert 2 not in compiled(row)(holey, MASK, keys[0]).items


@conformance
def test_lists_become_shorter_where_too_few_items_are_left(row):
    show = compiled(row)
    none = show(BELIEFS, jnp.zeros(N, bool), jax.random.key(0))
    assert none.items.tolist() == [-1, -1]
    assert not none.shown.any()
    assert not none.propensity.any()
    assert not none.standard_error.any()
    one = show(BELIEFS, jnp.arange(N) == 3, jax.random.key(0))
    assert one.items.tolist() == [3, -1]
    assert one.shown.tolist() == [True, False]
    np.testing.assert_allclose(one.propensity, [1, 0], rtol=1e-6)
    table = compiled(row, "propensities")(BELIEFS, jnp.arange(N) == 3, one.items, jax.random.key(0))
    np.testing.assert_allclose(table, [np.eye(N)[3], np.zeros(N)], rtol=1e-6)


@conformance
def test_positions_may_have_masks_of_their_own(row):
    mask = jnp.array([[False] * 3 + [True, False], [True, False, False, True, False]])
    slate = compiled(row)(BELIEFS, mask, jax.random.key(0))
    assert slate.items.tolist() == [3, 0]
    np.testing.assert_allclose(slate.propensity, 1, rtol=1e-6)


def change(**fields):
    return BELIEFS._replace(**fields)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: epsilon_greedy(epsilon=1.1), r"epsilon must be in \[0, 1\], got 1.1"),
        (lambda: epsilon_greedy(epsilon=math.nan), r"epsilon must be in \[0, 1\], got nan"),
        (
            lambda: POLICIES["epsilon_greedy"](explore="all"),
            "explore must be uniform or popularity",
        ),
        (lambda: softmax(temperature=0), "temperature must be > 0 and finite, got 0"),
        (lambda: POLICIES["ucb"](width=-1), "width must be >= 0"),
        (lambda: POLICIES["linear_ucb"](width=math.nan), "width must be >= 0"),
        (lambda: POLICIES["ucb1"](scale=0), "scale must be > 0"),
        (lambda: exploration.policy_of("ucb2"), "there is no policy 'ucb2'; did you mean 'ucb'"),
        (
            lambda: exploration.policy_of("ucb", epsilon=0),
            "ucb has no setting 'epsilon', only k, w",
        ),
        (lambda: thompson(draws=0), "draws must be a whole number >= 1, got 0"),
        (lambda: POLICIES["greedy"](k=0), "k must be a whole number >= 1, got 0"),
        (lambda: reserved_slots(MASK, MASK, k=2, share=2), r"share must be in \[0, 1\], got 2"),
    ],
)
def test_settings_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("row", "beliefs", "mask", "message"),
    [
        ("ucb", change(variance=jnp.ones(4)), MASK, r"variance must have the shape of mean, \(5,"),
        ("ucb", change(variance=-BELIEFS.mean), MASK, r"variance must be .* >= 0, got -0.3.* at"),
        ("ucb", change(variance=None), MASK, "beliefs.variance must be given"),
        ("thompson", change(variance=None), MASK, "beliefs.variance must be given"),
        ("linear_thompson", change(root=None), MASK, "beliefs.root must be given"),
        ("linear_ucb", change(root=jnp.ones(5)), MASK, r"root must be \[5, F\], got \[5\]"),
        ("linear_ucb", change(root=jnp.full((5, 2), jnp.inf)), MASK, "root must be finite"),
        ("ucb1", change(count=-BELIEFS.count), MASK, "count must be finite and >= 0, got -3.0"),
        ("epsilon_popular", change(popularity=None), MASK, "beliefs.popularity must be given"),
        ("greedy", change(mean=BELIEFS.mean * jnp.nan), MASK, "mean must be finite, got nan at it"),
        ("greedy", change(mean=jnp.ones((5, 1))), MASK, "variance must have the shape of mean"),
        ("greedy", BELIEFS, jnp.ones(4, bool), r"mask must be \[5\] or \[2, 5\], got \[4\]"),
        (
            "beta_thompson",
            change(mean=2 * BELIEFS.mean),
            MASK,
            r"mean must be in \(0, 1\), got 1.0",
        ),
        ("beta_thompson", change(count=0 * BELIEFS.count), MASK, "count must be > 0, got 0.0 at"),
    ],
)
def test_beliefs_that_do_not_fit_are_refused(row, beliefs, mask, message):
    with pytest.raises(ValueError, match=message):
        policy_in(row).show(beliefs, mask, jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        policy_in(row).propensities(beliefs, mask, jnp.array([0, 1]), jax.random.key(0))


@pytest.mark.parametrize("row", sorted(set(ROWS) - FIXED))
def test_random_policies_ask_for_a_key(row):
    with pytest.raises(ValueError, match="key must be given"):
        policy_in(row).show(BELIEFS, MASK)


def test_the_list_of_propensities_has_k_positions():
    for row in ("greedy", "thompson"):
        with pytest.raises(ValueError, match=r"items must be \[2\], got \[3\]"):
            policy_in(row).propensities(BELIEFS, MASK, jnp.arange(3), jax.random.key(0))


def test_epsilon_greedy_is_its_formula():
    # Best left with 1 - epsilon, and all that are left with epsilon in equal parts.
    table = compiled("epsilon_greedy", "propensities")(BELIEFS, MASK, jnp.array([2, 0]))
    np.testing.assert_allclose(table[0], [0.075, 0.075, 0.775, 0.075, 0], rtol=1e-6)
    np.testing.assert_allclose(table[1], [0.1, 0.8, 0, 0.1, 0], rtol=1e-6)
    # In proportion to popularity; 0 has none, and item 2 is gone at the second position.
    table = compiled("epsilon_popular", "propensities")(BELIEFS, MASK, jnp.array([2, 0]))
    first = 0.6 * np.array([4, 0, 1, 2, 0]) / 7 + [0, 0, 0.4, 0, 0]
    second = 0.6 * np.array([4, 0, 0, 2, 0]) / 6 + [0, 0.4, 0, 0, 0]
    np.testing.assert_allclose(table, [first, second], rtol=1e-6)
    unpopular = BELIEFS._replace(popularity=jnp.zeros(N))
    table = compiled("epsilon_popular", "propensities")(unpopular, MASK, jnp.array([2, 0]))
    np.testing.assert_allclose(table[0], [0.15, 0.15, 0.55, 0.15, 0], rtol=1e-6)


def test_softmax_has_the_distribution_of_gumbel_top_k():
    weights = np.exp(np.array([0.3, 0.45, 0.5, 0.4]) / 0.1)
    table = compiled("softmax", "propensities")(BELIEFS, MASK, jnp.array([1, 2]))
    np.testing.assert_allclose(table[0, :4], weights / weights.sum(), rtol=1e-5)
    rest = weights * [1, 0, 1, 1]
    np.testing.assert_allclose(table[1, :4], rest / rest.sum(), rtol=1e-5)
    # Far apart means must not overflow.
    far = BELIEFS._replace(mean=jnp.array([0.0, 1e4, -1e4, 1e4, 0.0]))
    table = compiled("softmax", "propensities")(far, MASK, jnp.array([1, 3]))
    np.testing.assert_allclose(table[0], [0, 0.5, 0, 0.5, 0])
    rng = np.random.default_rng(0)
    noisy = np.log(weights) + rng.gumbel(size=(LISTS, 4))
    lists, other = np.argsort(-noisy, axis=1)[:, :K], many("softmax")
    for one in itertools.permutations(range(4), K):
        a, b = ((drawn == one).all(axis=1).mean() for drawn in (lists, other))
        assert abs(a - b) <= 4 * math.sqrt(2 * max(a, b) / LISTS)


def test_thompson_is_its_closed_form_for_two_items():
    mask = jnp.array([False, True, True, False, False])

    def first(row, spread):
        slate = compiled(row)(BELIEFS, mask, jax.random.key(0))
        # P(x_1 > x_2) of a Gaussian difference.
        above = 0.5 * math.erfc(0.05 / math.sqrt(2 * spread))
        expected = above if slate.items[0] == 1 else 1 - above
        assert abs(slate.propensity[0] - expected) < 4 * slate.standard_error[0]
        error = math.sqrt(expected * (1 - expected) / LISTS)
        np.testing.assert_allclose(slate.standard_error, error, rtol=0.05)

    first("thompson", 0.01 + 0.01)
    # Jointly: the difference of the rows of the root, (.1, -.4).
    first("linear_thompson", 0.01 + 0.16)


def test_beta_thompson_draws_from_beta_distributions():
    # Beside an item that is known all but surely, the share of lists is the upper tail at its mean.
    a = np.array([1, 1, 0.3, 5, 200, 2e4])
    b = np.array([1, 3, 0.6, 0.8, 3, 3e4])
    at = stats.beta.ppf(np.array([[0.05], [0.5], [0.95]]), a, b).astype(np.float32)
    wide = np.broadcast_to(a / (a + b), at.shape), np.broadcast_to(a + b, at.shape)
    beliefs = Beliefs(
        jnp.asarray(np.stack([wide[0], at], axis=-1), jnp.float32),
        count=jnp.asarray(np.stack([wide[1], np.full(at.shape, 1e8)], axis=-1), jnp.float32),
    )
    show = beta_thompson(k=1, draws=1).show
    one = lambda own, key: show(own, jnp.ones(2, bool), key).items[0]  # noqa: E731
    batch = jax.vmap(jax.vmap(jax.vmap(one, (0, None)), (0, None)), (None, 0))
    count = 20_000
    first = jax.jit(batch)(beliefs, jax.random.split(jax.random.key(0), count))
    found, expected = np.mean(np.asarray(first) == 0, axis=0), stats.beta.sf(at, a, b)
    error = np.sqrt(expected * (1 - expected) / count)
    assert (np.abs(found - expected) < 4 * error).all()


def test_the_draw_of_linear_thompson_is_joint():
    # Items that are the same never part, though each is uncertain.
    same = Beliefs(jnp.array([0.0, 0.1, 0.2]), root=jnp.ones((3, 1)))
    slate = linear_thompson(k=3, draws=50).show(same, jnp.ones(3, bool), jax.random.key(0))
    assert slate.items.tolist() == [2, 1, 0]
    assert slate.propensity.tolist() == [1, 1, 1]


def test_a_shown_item_has_a_propensity_above_zero():
    # One draw of two: the list itself counts.
    show = jax.jit(jax.vmap(thompson(k=2, draws=2).show, in_axes=(None, None, 0)))
    slate = show(BELIEFS, MASK, jax.random.split(jax.random.key(0), 200))
    assert set(np.unique(slate.propensity)) == {0.5, 1.0}


def test_upper_bounds_are_their_arithmetic():
    np.testing.assert_allclose(ucb_bounds(BELIEFS, width=2.0)[:2], [0.7, 0.65], rtol=1e-6)
    bounds = ucb1_bounds(BELIEFS._replace(count=jnp.array([0.0, 9, 12, 4, 2])), scale=5.0)
    assert bounds[0] == jnp.inf
    np.testing.assert_allclose(bounds[3], 0.4 + 5 * math.sqrt(2 * math.log(27) / 4), rtol=1e-6)
    assert policy_in("ucb").show(BELIEFS, MASK).items.tolist() == [2, 1]
    # Standard deviations .22, .22, .2, .32: the order of the linear bounds.
    wide = BELIEFS._replace(variance=jnp.sum(BELIEFS.root**2, axis=1))
    assert policy_in("linear_ucb").show(wide, MASK).items.tolist() == [3, 2]
    unseen = BELIEFS._replace(count=jnp.array([4.0, 9, 12, 0, 2]))
    assert policy_in("ucb1").show(unseen, MASK).items[0] == 3


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_uncertainty_is_in_the_unit_of_the_reward(factor):
    scaled = BELIEFS._replace(
        mean=BELIEFS.mean * factor,
        variance=BELIEFS.variance * factor**2,
        root=BELIEFS.root * factor,
    )
    bonus, before = ucb_bounds(scaled) - scaled.mean, ucb_bounds(BELIEFS) - BELIEFS.mean
    np.testing.assert_allclose(bonus, factor * before, rtol=1e-5)
    keys = jax.random.split(jax.random.key(2), 20)
    for row, settings in (
        ("ucb", {}),
        ("linear_ucb", {}),
        ("ucb1", {"scale": factor}),
        ("softmax", {"temperature": 0.1 * factor}),
        ("thompson", {"draws": 1}),
        ("linear_thompson", {"draws": 1}),
    ):
        own = {"draws": 1} if "draws" in settings else {}
        before = jax.vmap(policy_in(row, **own).show, (None, None, 0))(BELIEFS, MASK, keys)
        after = jax.vmap(policy_in(row, **settings).show, (None, None, 0))(scaled, MASK, keys)
        np.testing.assert_array_equal(after.items, before.items, row)


@pytest.mark.parametrize(
    ("mask", "new", "k", "share", "kinds"),
    [
        ("11111111", "00001111", 4, 0.5, "onon"),
        ("11111111", "00001111", 4, 0.25, "ooon"),
        ("11111111", "00001111", 4, 0.0, "oooo"),
        ("11111111", "00001111", 4, 1.0, "nnnn"),
        ("11110100", "00001111", 4, 0.5, "ooon"),  # One new item is left.
        ("10001111", "00001111", 4, 0.25, "nnon"),  # Three new where only one other is left.
        ("10000011", "00001111", 4, 0.5, "non-"),
        ("00000000", "00001111", 4, 0.5, "----"),
    ],
)
def test_a_share_of_the_positions_is_for_new_items(mask, new, k, share, kinds):
    mask, new = (np.array([c == "1" for c in text]) for text in (mask, new))
    found = np.asarray(reserved_slots(jnp.array(mask), jnp.array(new), k=k, share=share))
    assert found.shape == (k, 8)
    # As many new positions as asked for, where both kinds suffice.
    asked = {"n": mask & new, "o": mask & ~new, "-": np.zeros(8, bool)}
    got = "".join(next(c for c in "-no" if (row == asked[c]).all()) for row in found)
    assert sorted(got) == sorted(kinds)
    assert got.rstrip("-") == got.replace("-", "")
    # No position is left over that something could have filled.
    slate = softmax(k=k, temperature=1.0).show(
        Beliefs(jnp.zeros(8)), jnp.array(found), jax.random.key(0)
    )
    assert slate.shown.sum() == min(k, mask.sum())


def test_reserved_positions_are_spread():
    new = jnp.arange(20) >= 10
    rows = reserved_slots(jnp.ones(20, bool), new, k=10, share=0.3)
    assert np.flatnonzero(rows[:, 10]).tolist() == [3, 6, 9]
