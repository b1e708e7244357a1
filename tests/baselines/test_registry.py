import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import baselines, registry
from metajax.evaluation.tuning import fits
from tests.kinds import slow_but

SETTINGS = {"eb_fold_in": {"rank": 2}}
ONE_DOMAIN = {one.name: one for one in registry.all_baselines() if not one.two_domains}


# The engine takes long to fit, and every run has its own tests.
@pytest.fixture(scope="module", params=slow_but(ONE_DOMAIN.keys() - {"hybrid"}, ONE_DOMAIN))
def fitted(request, training):
    baseline = ONE_DOMAIN[request.param]
    params = baseline.fit(training, **SETTINGS.get(baseline.name, {}))

    def scores(params, support, inputs):
        return baseline.adaptation.predict(
            params, baseline.adaptation.adapt(params, support), inputs
        )

    return baseline, params, scores


def test_every_baseline_is_found_once_and_those_of_two_domains_last():
    found = registry.all_baselines()
    names = [baseline.name for baseline in found]
    assert len(set(names)) == len(names)
    assert {"global_mean", "ease", "linear_map"} <= set(names)
    needs = [baseline.two_domains for baseline in found]
    assert needs == sorted(needs)
    assert {b.name for b in found if b.target_alone} == {
        "item_mean", "popularity", "random", "recent_popularity", "target_only",
        "target_only_ease", "target_only_item_knn",
    }  # fmt: skip


def test_public_names_are_sorted_and_exist():
    assert baselines.__all__ == sorted(baselines.__all__)
    assert all(hasattr(baselines, name) for name in baselines.__all__)


def test_parameters_are_floats_of_at_most_32_bits_or_int32(fitted):
    _, params, _ = fitted
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves(params)}
    assert kinds <= {"float16", "float32", "int32"}


@pytest.mark.slow
def test_every_setting_of_the_grid_fits(fitted, training):
    baseline, params, _ = fitted
    grid = [{**each, "rank": 2} if "rank" in each else each for each in baseline.grid]
    for other in fits(baseline, training, grid):
        assert jax.tree.structure(other) == jax.tree.structure(params)


@pytest.mark.slow
def test_an_empty_support_gives_finite_scores(fitted, make_support, candidates):
    _, params, scores = fitted
    result = scores(params, make_support([], [], padding=2), candidates)
    assert result.shape == (7,)
    assert result.dtype == jnp.float32
    assert np.isfinite(result).all()


def test_padding_adds_nothing(fitted, make_support, candidates):
    _, params, scores = fitted
    plain = scores(params, make_support([1, 4], [5.0, 2.0]), candidates)
    padded = scores(params, make_support([1, 4], [5.0, 2.0], padding=3), candidates)
    np.testing.assert_allclose(padded, plain, rtol=1e-6, atol=1e-6)


def test_the_order_of_the_support_adds_nothing(fitted, make_support, candidates):
    _, params, scores = fitted
    one = scores(params, make_support([1, 4, 2], [5.0, 2.0, 3.0]), candidates)
    other = scores(params, make_support([2, 1, 4], [3.0, 5.0, 2.0]), candidates)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_scores_of_an_item_do_not_depend_on_the_other_candidates(fitted, make_support, candidates):
    _, params, scores = fitted
    support = make_support([1], [5.0])
    subset = jax.tree.map(lambda leaf: leaf[jnp.array([5, 3])], candidates)
    expected = scores(params, support, candidates)[jnp.array([5, 3])]
    np.testing.assert_allclose(scores(params, support, subset), expected, rtol=1e-6)


def test_vmap_under_jit_equals_an_eager_loop(fitted, make_support, candidates):
    _, params, scores = fitted
    users = [
        make_support([], [], padding=3),
        make_support([1], [4.0], padding=2, features=(1.0, 0.0, 0.0)),
        make_support([2, 5, 0], [1.0, 5.0, 3.0], features=(0.0, -3.0, 1.0)),
    ]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *users)
    together = jax.jit(jax.vmap(scores, (None, 0, None)))(params, batch, candidates)
    alone = jnp.stack([scores(params, support, candidates) for support in users])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_personalised_methods_depend_on_the_support(fitted, make_support, candidates):
    baseline, params, scores = fitted
    before = scores(params, make_support([], [], padding=1), candidates)
    after = scores(params, make_support([0], [5.0]), candidates)
    unpersonalised = {"global_mean", "item_mean", "random", "popularity", "recent_popularity"}
    # The items of the toy catalogue have no features.
    unpersonalised |= {"content_profile"}
    assert np.array_equal(before, after) == (baseline.name in unpersonalised)
