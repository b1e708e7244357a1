"""The rating network of the field's MAML recommender: two towers and a predictor."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.base import Inputs

__all__ = ["RatingNetwork"]


class RatingNetwork(nn.Module):
    """Embeds user and item attributes, joins the embeddings, predicts the rating.

    The score is `offset + predictor([user_tower(user), item_tower(item)])`. With `items`, each
    item of the catalogue also has an identity: an embedding that is joined to the others, and
    a bias that is added to the score. With `direct`, a linear layer of its own maps the joined
    embeddings to the score, beside the predictor: adapted to a user, it is the user's vector of
    a factor model.

    Parameters are named `user_tower/layer_i`, `item_tower/layer_i`, `predictor/layer_i`,
    `direct`, `item_embedding/embedding` and `item_bias/embedding`.

    Attributes:
        user_widths: Widths of the user tower; the last one is the embedding's.
        item_widths: Widths of the item tower.
        predictor_widths: Widths of the predictor's hidden layers; its output layer is extra.
        offset: A constant added to every score, for instance the mean rating.
        items: Number of items with an identity; 0 for none.
        identity_width: Width of the identity embedding.
        direct: Whether the joined embeddings also reach the score by a linear layer.

    References:
        Lee et al., MeLU: Meta-Learned User Preference Estimator for Cold-Start Recommendation,
        KDD 2019. Differs: attributes are encoded by a schema, numeric ones included; identity,
        bias and the direct layer (Cheng et al., Wide & Deep Learning, DLRS 2016) are ours.
    """

    user_widths: Sequence[int] = (64, 64, 32)
    item_widths: Sequence[int] = (64, 32)
    predictor_widths: Sequence[int] = (64, 64)
    offset: float = 0.0
    items: int = 0
    identity_width: int = 16
    direct: bool = False

    @nn.compact
    def __call__(self, inputs: Inputs) -> jax.Array:
        """Scores interactions.

        Args:
            inputs: N interactions.

        Returns:
            `[N]` ratings on the scale of `offset`.
        """
        embeddings = [
            _Tower(self.user_widths, name="user_tower")(inputs.user_features),
            _Tower(self.item_widths, name="item_tower")(inputs.item_features),
        ]
        bias = jnp.zeros(())
        if self.items:
            identity = nn.Embed(self.items, self.identity_width, name="item_embedding")
            zeros = nn.initializers.zeros_init()
            item_bias = nn.Embed(self.items, 1, embedding_init=zeros, name="item_bias")
            embeddings.append(identity(inputs.item))
            bias = item_bias(inputs.item)[:, 0]
        joined = jnp.concatenate(embeddings, axis=-1)  # [N, E_user + E_item + identity]
        score = _Tower((*self.predictor_widths, 1), name="predictor")(joined)[:, 0]
        if self.direct:
            score += nn.Dense(1, name="direct")(joined)[:, 0]
        return self.offset + bias + score


class _Tower(nn.Module):
    """Dense layers with relu between them."""

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, name=f"layer_{i}")(x if i == 0 else nn.relu(x))
        return x
