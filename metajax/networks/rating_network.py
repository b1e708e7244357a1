"""Rating network of MeLU: two towers and a predictor."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype

from metajax.networks.encoder import Tower
from metajax.types import Inputs, Params

__all__ = ["RatingNetwork", "initial_bias", "initial_identity"]


class RatingNetwork(nn.Module):
    """Rating predictor on the concatenated embeddings of user and item.

    The score is `predictor([user_tower(user), item_tower(item)])`. With `items`, each item of
    the catalogue also has an identity: an embedding that is joined to the others, and a bias
    that is added to the score. With `direct`, a linear layer also maps the identity straight to
    the score: adapted to a user, its weights are the user's vector in a factor model.

    Parameters are named `user_tower/layer_i`, `item_tower/layer_i`, `predictor/layer_i`,
    `direct`, `item_embedding/embedding` and `item_bias/embedding`.

    Attributes:
        user_widths: Widths of the user tower; the last one is the embedding's.
        item_widths: Widths of the item tower.
        predictor_widths: Widths of the predictor's hidden layers; its output layer is extra.
        items: Number of items with an identity; 0 for none.
        identity_width: Width of the identity embedding.
        direct: True to add a linear layer from the identity to the score.
        dtype: Type of the hidden layers, for instance `jnp.bfloat16`; None means the type of
            parameters and inputs. Parameters are float32 whatever it is, and so is what adds up
            to the score: the last layer, the item's bias and the direct layer.

    References:
        Lee et al., MeLU: Meta-Learned User Preference Estimator for Cold-Start Recommendation,
        KDD 2019. Differs: attributes are encoded by a schema, numeric ones included; identity,
        bias and the direct layer (Cheng et al., Wide & Deep Learning, DLRS 2016) are ours.
    """

    user_widths: Sequence[int] = (64, 64, 32)
    item_widths: Sequence[int] = (64, 32)
    predictor_widths: Sequence[int] = (64, 64)
    items: int = 0
    identity_width: int = 16
    direct: bool = False
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, inputs: Inputs) -> jax.Array:
        """Scores interactions.

        Args:
            inputs: N interactions; the attributes of a user of all of them may be `[1, Du]`, and
                what depends on them alone is computed once.

        Returns:
            `[N]` ratings.

        Raises:
            ValueError: If `direct` is given without `items`, or there are no inputs.
        """
        towers = (
            ("user_tower", self.user_widths, inputs.user_features),
            ("item_tower", self.item_widths, inputs.item_features),
        )
        # Without attributes of users, or of items, there is no tower.
        embeddings = [Tower(w, self.dtype, name=name)(x) for name, w, x in towers if x.shape[-1]]
        score = jnp.zeros(inputs.item.shape)
        if self.items:
            identity = nn.Embed(self.items, self.identity_width, name="item_embedding")(inputs.item)
            zeros = nn.initializers.zeros_init()
            bias = nn.Embed(self.items, 1, embedding_init=zeros, name="item_bias")(inputs.item)
            embeddings.append(identity)
            score += bias[:, 0]
            if self.direct:
                direct = nn.Dense(1, use_bias=False, kernel_init=zeros, name="direct")
                score += direct(identity)[:, 0]
        elif self.direct:
            raise ValueError("direct must be False where items is 0, got True.")
        if not embeddings:
            raise ValueError("inputs must have features where items is 0, got none.")
        predictor = Tower((*self.predictor_widths, 1), self.dtype, scores=True, name="predictor")
        shared = None
        if len(embeddings) > 1 and len(embeddings[0]) < len(inputs.item):
            shared, *embeddings = embeddings
        joined = jnp.concatenate(embeddings, axis=-1)  # [N, E_user + E_item + identity]
        return score + predictor(joined, shared)[:, 0]


def initial_identity(params: Params, embedding: jax.Array, bias: jax.Array) -> Params:
    """Initialises item embeddings by pretrained factors, and the predictor by 0.

    The first scores are then the pretrained item biases, and what the rest of the network
    learns is what they leave over.

    Args:
        params: Parameters of a `RatingNetwork` with `items`.
        embedding: `[I, identity_width]` item factors.
        bias: `[I]` item biases, the mean rating included.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If the shapes do not fit, or there are no identities.
    """
    params = initial_bias(params, 0.0)
    for name, value in (("item_embedding", embedding), ("item_bias", bias[:, None])):
        if name not in params:
            raise ValueError(f"params must have {name} (a network with items), got none.")
        shape = params[name]["embedding"].shape
        if value.shape != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {value.shape}.")
        params = {**params, name: {"embedding": jnp.asarray(value, jnp.float32)}}
    return params


def initial_bias(params: Params, bias: float) -> Params:
    """Initialises the predictor to the constant `bias`, for instance the mean rating."""
    predictor = dict(params["predictor"])
    last = max(predictor, key=lambda name: int(name.removeprefix("layer_")))
    kernel = predictor[last]["kernel"]
    predictor[last] = {"kernel": jnp.zeros_like(kernel), "bias": jnp.full((1,), bias)}
    return {**params, "predictor": predictor}
