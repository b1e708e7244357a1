"""Rows of the suite that take inner steps, or their learners: all on one tiny network."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from conformance import PARAMS, TASK, Row, apply, drawn, embed

from metajax import learners, losses
from metajax.adaptation import FirstOrder, gradient_steps, matching, zero_shot
from metajax.types import Adaptation, Model

MEAN = losses.on_examples(apply, losses.squared_error)
TOTAL = losses.on_examples(apply, losses.total_squared_error)


def steps(optimizer, count, inner_loss=MEAN, **options) -> Adaptation:
    return gradient_steps(inner_loss, optimizer, count, predict=apply, **options)


def of_network(params, inputs):
    return apply(params["network"], inputs)


def of_learner(method, zero_shot=of_network, *, in_order=False, **options) -> Row:
    """A method's learner of the network above."""
    network = Model(init=lambda key, inputs: PARAMS, apply=apply)
    learner = method(network, losses.squared_error, outer=optax.sgd(0.1), **options)
    batch = jax.tree.map(lambda leaf: leaf[None], TASK)
    start = Model(init=lambda key, inputs: learner.init(key, batch).params, apply=apply)
    return Row(learner, drawn(start, 0.1), zero_shot, in_order=in_order)


def nearest_learned_prototype(params, inputs):
    distances = embed(params["network"], inputs)[:, None] - params["prototypes"][None]
    shares = jax.nn.softmax(-jnp.sum(jnp.square(distances), axis=-1))
    return of_network(params, inputs) + shares @ jnp.array(LEVELS)


LEVELS = (-1.0, 0.0, 2.0)
BY_RULE = {
    "sgd": steps(optax.sgd(0.1), 2),
    "sgd, first order": steps(optax.sgd(0.1), 2, adjoint=FirstOrder()),
    "sgd of the total, scanned": steps(optax.sgd(0.01), 11, TOTAL),
    "sgd of the shrunk mean": steps(
        optax.sgd(0.2),
        2,
        losses.on_examples(apply, partial(losses.shrunk_squared_error, prior=2.0)),
    ),
    "momentum": steps(optax.sgd(0.1, momentum=0.9), 2),
    "adam": steps(optax.adam(0.05, eps_root=1e-6), 2),
}
BY_STEPS: dict[str, Callable[[], Row]] = {
    "zero shot": partial(Row, zero_shot(apply), PARAMS, apply, adapts=False),
    **{name: partial(Row, rule, PARAMS, apply) for name, rule in BY_RULE.items()},
    "anil": partial(
        of_learner, learners.anil, apply, inner=optax.sgd(0.1), steps=2, head=matching("predictor")
    ),
    "boil": partial(
        of_learner, learners.boil, apply, inner=optax.sgd(0.1), steps=2, head=matching("predictor")
    ),
    "cavia": partial(
        of_learner,
        learners.cavia,
        apply,
        inner=optax.sgd(0.1),
        size=2,
        steps=2,
        # The network has no room for more features: the context moves those it has.
        join=lambda inputs, c: inputs._replace(user_features=inputs.user_features + c[None]),
    ),
    "gru of embeddings": partial(
        of_learner,
        learners.gru_adapter,
        sees="embeddings",
        adapts=matching("predictor"),
        in_order=True,
    ),
    "gru of gradients": partial(of_learner, learners.gru_adapter, sees="gradients", steps=2),
    "imaml": partial(
        of_learner, learners.imaml, apply, inner=optax.sgd(0.1), steps=2, proximal=2.0, iterations=2
    ),
    "maml++": partial(of_learner, learners.maml_plus_plus, rate=0.1, steps=2),
    "meta-sgd": partial(of_learner, learners.meta_sgd, rate=0.1, steps=2),
    "proto-maml": partial(
        of_learner,
        learners.proto_maml,
        nearest_learned_prototype,
        embed=embed,
        levels=LEVELS,
        inner=optax.sgd(0.1),
        adapts=matching(),
    ),
    "reptile": partial(of_learner, learners.reptile, apply, inner=optax.sgd(0.1), steps=2),
}
"""Builders of rows by name, so that nothing is compiled before it is used."""
