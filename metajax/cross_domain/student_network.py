"""A student: a user in one pass over their ratings, an item as a vector of its own."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.losses import blanked
from metajax.networks.meta_params import with_initial_values
from metajax.types import Examples, Inputs, Params

__all__ = ["StudentNetwork", "start_student"]


class StudentNetwork(nn.Module):
    """Reads a support as a sum and scores items by products.

    With the items' vectors v, r what ratings are above the expected ones and n their number, a
    user lies at

        z_k = sum_j r_j v_jk / (noise + n spread_k) ,

    which is the posterior mean where directions are uncorrelated over n items of the average
    spread: a teacher inverts a matrix for each user, this does not. A hidden layer corrects it,
    by 0 at first and for who rated nothing.

    Attributes:
        items: Number of items.
        width: L, of the vectors.
        hidden: Width of the hidden layer.
    """

    items: int
    width: int
    hidden: int = 16

    def setup(self) -> None:
        """Names the parameters."""
        zeros = nn.initializers.zeros_init()
        self.item_embedding = self.param("item_embedding", zeros, (self.items, self.width))
        self.item_bias = self.param("item_bias", zeros, (self.items,))
        self.log_noise = self.param("log_noise", zeros, ())
        self.log_spread = self.param("log_spread", zeros, (self.width,))
        self.user_map = nn.Dense(self.width, use_bias=False, kernel_init=zeros)
        self.inner = nn.Dense(self.hidden, use_bias=False)
        self.correction = nn.Dense(self.width, use_bias=False, kernel_init=zeros)

    def encode(self, support: Examples) -> jax.Array:
        """Returns `[L]`, where the user lies beyond what their attributes tell."""
        inputs, labels, mask = blanked(support)
        above = jnp.where(mask, labels - self.decode(jnp.zeros(self.width), inputs), 0)
        spread = jnp.sum(mask) * jnp.exp(self.log_spread)
        place = above @ self.item_embedding[inputs.item] / (jnp.exp(self.log_noise) + spread)
        return place + self.correction(nn.relu(self.inner(place)))

    def decode(self, state: jax.Array, inputs: Inputs) -> jax.Array:
        """Scores `[N]` items for that user."""
        place = jnp.broadcast_to(state, (len(inputs.item), self.width))
        if inputs.user_features.shape[1]:
            place += self.user_map(inputs.user_features)
        vectors = self.item_embedding[inputs.item]
        return self.item_bias[inputs.item] + jnp.sum(vectors * place, axis=1)

    def __call__(self, support: Examples, inputs: Inputs) -> jax.Array:
        """Scores items for who gave that support."""
        return self.decode(self.encode(support), inputs)


def start_student(
    params: Params,
    *,
    design: jax.Array,
    expected: jax.Array,
    share: jax.Array,
    user_map: jax.Array,
    noise: jax.Array,
) -> Params:
    """Starts from a Gaussian model of ratings, turned so that its directions are uncorrelated.

    Args:
        params: Parameters of a `StudentNetwork`.
        design: `[I, L]` of the items, for users with a standard normal prior.
        expected: `[I]` ratings by a user whose latents are 0.
        share: `[I]` of all ratings, by which items count; they sum to 1.
        user_map: `[Du, L]` from attributes of a user to where they are expected.
        noise: `[]` variance of a rating, > 0.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a shape does not fit.
    """
    spread, turn = jnp.linalg.eigh(design.T @ (share[:, None] * design))
    given = {
        "item_embedding": design @ turn,
        "item_bias": expected,
        "log_noise": jnp.log(noise),
        # Rounding makes the spread along a direction that no item has negative.
        "log_spread": jnp.log(jnp.maximum(spread, 1e-6)),
        "user_map": {"kernel": user_map @ turn},
    }
    if "user_map" not in params:
        del given["user_map"]
    return with_initial_values(params, given)
