"""Content features of items of two domains in one space, with an adapter for the target."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.networks.meta_params import with_initial_values
from metajax.types import Evidence, Inputs, Params

__all__ = ["Adapter", "ContentNetwork", "initial_content"]


class Adapter(nn.Module):
    """Residual bottleneck: `x + up(relu(down(x)))`, with `up` initialised to 0.

    Attributes:
        width: Width of the bottleneck.

    References:
        Houlsby et al., Parameter-Efficient Transfer Learning for NLP, ICML 2019, section 2.1.
        Differs: up is exactly 0 initially, not nearly; there is no layer norm to train with it.
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Adapts `[..., L]`."""
        zeros = nn.initializers.zeros_init()
        hidden = nn.relu(nn.Dense(self.width, name="down")(x))
        return x + nn.Dense(x.shape[-1], kernel_init=zeros, name="up")(hidden)


class ContentNetwork(nn.Module):
    """Evidence of an interaction from content features of its item in any domain.

    A linear encoder of the item's traits and attributes, which both domains share, gives the row
    of the design matrix; in the target an `Adapter` changes it. The expected label is the item's
    bias plus the product of that row with the coefficients expected of a user with these
    attributes. `adaptation.ridge_head` adds the user's deviation, with a standard normal prior.

    Parameters are named `encoder`, `adapter`, `user_map`, `item_bias`, `log_noise` and, from
    closed forms and not to be trained, `traits` and `item_domain`.

    Attributes:
        items: Number of items.
        traits: V, number of an item's features in addition to its attributes.
        width: L, directions along which users differ.
        bottleneck: Width of the adapter.
    """

    items: int
    traits: int
    width: int
    bottleneck: int = 8

    @nn.compact
    def __call__(self, inputs: Inputs) -> Evidence:
        """Returns the evidence of N interactions; F is `width`."""
        zeros = nn.initializers.zeros_init()
        table = self.param("traits", zeros, (self.items, self.traits))
        domain = self.param("item_domain", zeros, (self.items,))
        bias = self.param("item_bias", zeros, (self.items,))
        noise = jnp.exp(self.param("log_noise", zeros, ()))
        features = jnp.concatenate(
            [jax.lax.stop_gradient(table)[inputs.item], inputs.item_features], axis=1
        )
        shared = nn.Dense(self.width, use_bias=False, name="encoder")(features)
        own = Adapter(self.bottleneck, name="adapter")(shared)
        in_target = jax.lax.stop_gradient(domain)[inputs.item][:, None]
        design = (1 - in_target) * shared + in_target * own
        expected = bias[inputs.item]
        if inputs.user_features.shape[1]:
            usual = nn.Dense(self.width, use_bias=False, kernel_init=zeros, name="user_map")
            expected += jnp.sum(usual(inputs.user_features) * design, axis=1)
        return Evidence(expected, design, jnp.broadcast_to(noise, expected.shape))


def initial_content(
    params: Params,
    *,
    item_domain: jax.Array,
    expected: jax.Array,
    traits: jax.Array,
    encoder: jax.Array,
    user_map: jax.Array,
    noise: jax.Array,
) -> Params:
    """Initialises by a Gaussian model of ratings, whose posterior it then predicts.

    Args:
        params: Parameters of a `ContentNetwork`.
        item_domain: `[I]` 0 for an item of the source, 1 for one of the target.
        expected: `[I]` ratings by a user whose latents are 0.
        traits: `[I, V]` features of items in addition to their attributes.
        encoder: `[V + Di, L]` from traits and attributes to directions.
        user_map: `[Du, L]` from attributes of a user to expected coefficients.
        noise: `[]` variance of a rating, > 0.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a shape does not fit.
    """
    given = {
        "item_domain": item_domain,
        "item_bias": expected,
        "traits": traits,
        "encoder": {"kernel": encoder},
        "user_map": {"kernel": user_map},
        "log_noise": jnp.log(noise),
    }
    if "user_map" not in params:
        del given["user_map"]
    return with_initial_values(params, given)
