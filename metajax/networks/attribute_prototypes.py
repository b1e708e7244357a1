"""Where interactions lie among prototypes, by what is said of their items."""

import flax.linen as nn
import jax.numpy as jnp

from metajax.types import AmongPrototypes, Inputs

__all__ = ["AttributePrototypes"]


class AttributePrototypes(nn.Module):
    """Places items by a network of what is said of them, and users' tastes at prototypes.

    What a user of given attributes thinks of a prototype is a linear form of the attributes,
    which starts at 0.

    Attributes:
        content: Maps inputs to `Evidence`: its design is the place, its expected label is what
            is expected.
        width: D, its number of directions.
        prototypes: M.
    """

    content: nn.Module
    width: int
    prototypes: int = 16

    @nn.compact
    def __call__(self, inputs: Inputs) -> AmongPrototypes:
        """Places N interactions."""
        zeros = nn.initializers.zeros_init()
        found = self.content(inputs)
        value = jnp.broadcast_to(
            self.param("value", zeros, (self.prototypes,)), (len(inputs.item), self.prototypes)
        )
        if inputs.user_features.shape[1]:
            taste = nn.Dense(self.prototypes, use_bias=False, kernel_init=zeros, name="user_value")
            value += taste(inputs.user_features)
        # At first the prototypes weigh as much as 16 examples, and the level's prior as 5.
        each = nn.initializers.constant(jnp.log(16.0 / self.prototypes))
        return AmongPrototypes(
            found.design,
            found.expected,
            self.param("prototype", nn.initializers.normal(1.0), (self.prototypes, self.width)),
            self.param("log_weight", each, (self.prototypes,)),
            value,
            jnp.exp(self.param("log_sharpness", nn.initializers.constant(jnp.log(8.0)), ())),
            jnp.exp(self.param("log_level_count", nn.initializers.constant(jnp.log(5.0)), ())),
        )
