import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import cross_domain, losses
from metajax.types import Examples, Inputs, Task

ITEMS, WIDTH = 4, 2
MODEL = cross_domain.shared_space_network(ITEMS, WIDTH)
FACTORS = cross_domain.DomainFactors(
    jnp.array([0.0, 0.0, 1.0, 1.0]),
    jnp.asarray(np.random.default_rng(0).normal(size=(ITEMS, WIDTH))),
    jnp.array([1.0, 2.0, 3.0, 4.0]),
    jnp.ones(2),
)


def examples(items, labels) -> Examples:
    blank = jnp.zeros((1, len(items), 0))
    inputs = Inputs(blank, blank, jnp.array([items]))
    return Examples(inputs, jnp.array([labels]), jnp.ones((1, len(items)), bool))


# Nothing is shown, so that every score is the item's bias.
SUPPORT = examples([0], [0.0])._replace(mask=jnp.zeros((1, 1), bool))
TASKS = Task(SUPPORT, examples([2, 3, 0], [3.0, 6.0, 4.0]))


def learner(share, loss=losses.squared_error):
    def init(key, inputs):
        return cross_domain.initial_shared_space(
            MODEL.init(key, inputs), cross_domain.CanonicalFactors(FACTORS, jnp.zeros(2))
        )

    started = MODEL._replace(init=init)
    return cross_domain.shared_space(started, loss, outer=optax.adamw(0.1), source_share=share)


@pytest.mark.parametrize("loss", [losses.squared_error, optax.squared_error])
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_each_domain_is_weighted_by_its_share(share, loss):
    """Of the source the error is 3; of the target 0 and 2."""
    rule = learner(share, loss)
    _, metrics = jax.jit(rule.update)(rule.init(jax.random.key(0), TASKS), TASKS)
    expected = share * 3**2 + (1 - share) * (0**2 + 2**2) / 2
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-6)


def test_the_factors_stay_as_they_are_and_the_maps_learn():
    rule = learner(0.5)
    tasks = TASKS._replace(support=examples([1, 2], [1.0, 5.0]))
    before = rule.init(jax.random.key(0), tasks)
    after, _ = jax.jit(rule.update)(before, tasks)
    for old, new in zip(before.params["factors"], after.params["factors"], strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.all(np.any(after.params["maps"] != before.params["maps"], axis=(1, 2)))


def test_a_share_is_between_zero_and_one():
    with pytest.raises(ValueError, match=r"source_share must be in \[0, 1\], got 1.5"):
        learner(1.5)
