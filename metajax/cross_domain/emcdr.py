"""EMCDR: a map of users between the embedding spaces of two domains, learned from common users."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from metajax.adaptation import amortised
from metajax.cross_domain.domain_factors import (
    CanonicalFactors,
    FactorOptions,
    domain_of,
    domain_posterior,
    from_canonical_factors,
    initial_bridge,
    two_domain_network,
)
from metajax.cross_domain.domains import SOURCE, TARGET
from metajax.cross_domain.embedding_map import EmbeddingMap
from metajax.data.dataset import Shapes
from metajax.learners import fixed, learner_with, query_loss
from metajax.learners.outer import TaskLoss
from metajax.losses import blanked
from metajax.methods import Method, Settings, outer_optimizer
from metajax.types import Loss, MetaLearner, Params, Posterior, SupportModel, Task

__all__ = ["PosteriorMeanMap", "emcdr", "methods"]


class PosteriorMeanMap(nn.Module):
    """Map of the posterior mean in the source: a bridge of `two_domain_network`.

    Its parameters are those of the `EmbeddingMap`, under `map`.

    Attributes:
        hidden: Width of the hidden layer; 0 for a linear map.
    """

    hidden: int = 0

    @nn.compact
    def __call__(self, source: Posterior) -> jax.Array:
        """Maps the posterior in the source to `[F]`, the prior mean in the target."""
        return EmbeddingMap(len(source.mean), self.hidden, name="map")(source.mean)


def emcdr(
    model: SupportModel,
    loss: Loss | None = None,
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns the map of users from source to target by users of both.

    The loss of a task is the squared distance between the latent vector that the model predicts
    from the rows of the source, and the posterior mean given all rows of the target, of support
    and query. Users without a row in the source contribute 0. Item embeddings are closed forms and
    stay as they are.

    Args:
        model: A `two_domain_network`, for instance with a `PosteriorMeanMap` as the bridge.
        loss: `loss(scores, labels, *, where) -> []` of the query, a task-oriented loss instead of
            the distance. None means the distance.
        outer: Optax optimizer of the bridge.
        microbatch: Tasks in memory at once; None means all of an update.

    Returns:
        A meta-learner. A new user may have rows of the source, of the target, of both or none.

    References:
        Man, Shen, Jin and Cheng, Cross-Domain Recommendation: An Embedding and Mapping Approach,
        IJCAI 2017. Differs: embeddings of users are posterior means under a Gaussian prior, given
        the ratings in the task, and ratings of the target correct the prediction. With a loss,
        after Zhu et al., Transfer-Meta Framework for Cross-domain Recommendation to Cold-Start
        Users, SIGIR 2021, whose map is learned by ratings; there by inner steps too.
    """
    adaptation = amortised(model.encode, model.decode)
    task_loss = _distance(model) if loss is None else query_loss(adaptation, loss)
    return learner_with(
        {0: task_loss}, model, adaptation, fixed(outer, "factors"), microbatch=microbatch
    )


def _distance(model: SupportModel) -> TaskLoss:
    def task_loss(params: Params, task: Task, key: jax.Array | None, step: jax.Array) -> jax.Array:
        del key, step
        support, query = blanked(task.support), blanked(task.query)
        factors = params["factors"]
        in_source = support.mask & (domain_of(factors, support.inputs) == SOURCE)
        mapped = model.encode(params, support._replace(mask=in_source)).target.mean
        rows = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), support, query)
        own = domain_posterior(factors, rows, TARGET).mean
        return jnp.where(in_source.any(), jnp.sum(jnp.square(mapped - own)), 0)

    return task_loss


def _network(settings: Settings, shapes: Shapes) -> SupportModel:
    """Map with a hidden layer, twice as wide as the users' latent vectors as in the paper."""
    width = settings.options.rank + 1
    return two_domain_network(shapes.items, width, PosteriorMeanMap(2 * width))


def _linear_network(settings: Settings, shapes: Shapes) -> SupportModel:
    return two_domain_network(shapes.items, settings.options.rank + 1, PosteriorMeanMap())


def _initial(params: Params, found: CanonicalFactors) -> Params:
    """Initialises the map by the linear regression between the domains."""
    return initial_bridge(params, found, {"map": jnp.diag(found.correlation)})


def _learner(settings: Settings, network: SupportModel) -> MetaLearner:
    return emcdr(network, outer=outer_optimizer(settings), microbatch=settings.microbatch)


def _method(name: str, network: Callable[[Settings, Shapes], SupportModel]) -> Method:
    return Method(
        name,
        _learner,
        network,
        from_canonical_factors(_initial),
        options=FactorOptions,
        # The initial map is near its optimum; a larger query localises the user better.
        settings={
            "rate": 3e-3,
            "weight_decay": 0.0,
            "updates": 100,
            "validate_every": 50,
            "query": 40,
        },
        grid=({}, {"rate": 1e-3}),
        any_support=True,
        needs_ratings=True,
        two_domains=True,
    )


methods: tuple[Method, ...] = (_method("emcdr", _network), _method("emcdr_linear", _linear_network))
"""Map with one hidden layer, and linear map."""
