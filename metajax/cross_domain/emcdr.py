"""The recipe that maps users of one domain to another, learned on those who are in both."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation import amortised
from metajax.cross_domain.domain_factors import known_of
from metajax.learners.frozen import fixed
from metajax.learners.outer import TaskLoss, learner_with, query_loss
from metajax.losses import blanked
from metajax.types import MetaLearner, Params, SupportModel, Task

__all__ = ["emcdr"]


def emcdr(
    model: SupportModel,
    loss: Callable[..., jax.Array] | None = None,
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns where users of the source lie in the target, from users whose place in both is known.

    A training task is such a user: the rows of the source tell where they lie there, all rows of
    the target, of support and query, where they lie here, and the loss is the squared distance
    from there to where the model expects them without a row of the target. Users without a row of
    the source tell nothing. Embeddings are those of closed forms and stay as they are.

    Args:
        model: A `models.two_domains`, for instance with the bridge `models.MapOfMean(hidden)`.
        loss: `loss(scores, labels, *, where) -> []`, of the query: the task-oriented loss in the
            place of the distance. None means the distance.
        outer: Optax optimizer of the bridge.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner. A new user may have rows of the source, of the target, of both or none.

    References:
        Man, Shen, Jin and Cheng, Cross-Domain Recommendation: An Embedding and Mapping Approach,
        IJCAI 2017. Differs: embeddings of users are posterior means under a Gaussian prior, of as
        many ratings as a task shows, and ratings of the target correct what the map expects. With
        a loss, after Zhu et al., Transfer-Meta Framework for Cross-domain Recommendation to
        Cold-Start Users, SIGIR 2021, whose map is learned by ratings; there by inner
        steps too.
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
        of_source = support.mask & (factors.domain[support.inputs.item] == 0)
        expected = model.encode(params, support._replace(mask=of_source)).target.mean
        rows = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), support, query)
        place = known_of(factors, rows, 1).mean
        return jnp.where(of_source.any(), jnp.sum(jnp.square(expected - place)), 0)

    return task_loss
