"""The products of small matrices against NumPy's, in every mode of differentiation."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.adaptation.factored.low_rank import product, product_with_transposed, shared_product

PAIRS = {
    "product": (product, jnp.matmul, (2, 3), (3, 4)),
    "with transposed": (product_with_transposed, lambda p, q: p @ q.T, (2, 3), (4, 3)),
    "shared": (shared_product, jnp.matmul, (2, 3), (3, 4)),
}


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (1, 2)])
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.slow
def test_a_product_and_its_derivatives_are_those_of_matmul(name, axes):
    ours, reference, first, second = PAIRS[name]
    rng = np.random.default_rng(0)

    def drawn(shape, axis):
        shape = list(shape)
        if axis is not None:
            shape.insert(axis, 5)
        return jnp.asarray(rng.normal(size=shape))

    args = drawn(first, axes[0]), drawn(second, axes[1])

    def judged(multiply):
        def loss(a, b):
            return jnp.sum(jnp.sin(jax.vmap(multiply, in_axes=axes)(a, b)))

        def twice(a, b):
            inner = jax.grad(loss, argnums=(0, 1))(a, b)
            return sum(jnp.sum(jnp.square(g)) for g in inner)

        def forward(a, b):
            return jax.jvp(jax.grad(twice, argnums=(0, 1)), (a, b), (b_like(a), b_like(b)))[1]

        return loss(*args), jax.grad(twice, argnums=(0, 1))(*args), forward(*args)

    def b_like(leaf):
        return jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)

    ours, reference = jax.jit(lambda: (judged(ours), judged(reference)))()
    chex.assert_trees_all_close(ours, reference, rtol=1e-10, atol=1e-10)
