import chex
import jax.numpy as jnp
import pytest

from metajax.adaptation import combine, matching, partition, paths

PARAMS = {"tower": {"layer_0": {"bias": 1.0, "kernel": 2.0}}, "bias": 3.0}


def test_a_path_names_each_leaf_in_the_order_of_the_leaves():
    assert paths(PARAMS) == ["bias", "tower/layer_0/bias", "tower/layer_0/kernel"]


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (("tower/*",), ["tower/layer_0/bias", "tower/layer_0/kernel"]),
        (("*/bias",), ["tower/layer_0/bias"]),
        (("*bias",), ["bias", "tower/layer_0/bias"]),
        (("bias", "*/kernel"), ["bias", "tower/layer_0/kernel"]),
        (("tower",), []),
        (("TOWER/*",), []),
        ((), []),
    ],
)
def test_patterns_choose_whole_paths(patterns, chosen):
    assert [path for path in paths(PARAMS) if matching(*patterns)(path)] == chosen


def test_everything_chooses_everything():
    assert partition(PARAMS, "*") == (
        PARAMS,
        {"tower": {"layer_0": {"bias": None, "kernel": None}}, "bias": None},
    )


@pytest.mark.parametrize("pattern", ["*", "tower/*", "bias"])
def test_combine_undoes_partition(pattern):
    assert combine(*partition(PARAMS, matching(pattern))) == PARAMS


def test_a_lone_array_is_a_parameter_too():
    chosen, rest = partition(jnp.ones(2), matching("*"))
    assert rest is None
    chex.assert_trees_all_equal(combine(chosen, rest), jnp.ones(2))


def test_an_empty_choice_is_refused():
    with pytest.raises(ValueError, match="adapts must choose a parameter, got none of bias, tower"):
        partition(PARAMS, matching("predictor/*"))
