import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax import cross_domain, losses
from metajax.types import Examples, Inputs, Task

ITEMS, WIDTH = 6, 2
DOMAIN = np.array([0, 0, 0, 1, 1, 1])
RNG = np.random.default_rng(0)
FACTORS = cross_domain.DomainFactors(
    jnp.asarray(DOMAIN, jnp.float32),
    jnp.asarray(RNG.normal(size=(ITEMS, WIDTH)), jnp.float32),
    jnp.asarray(RNG.normal(size=ITEMS), jnp.float32),
    jnp.array([0.5, 2.0]),
)
MODEL = cross_domain.two_domain_network(ITEMS, WIDTH, cross_domain.PosteriorMeanMap())
WEIGHTS, OFFSET = jnp.asarray(RNG.normal(size=(WIDTH, WIDTH)), jnp.float32), jnp.array([0.3, -0.1])


def start(key, inputs):
    params = cross_domain.initial_factors(MODEL.init(key, inputs), FACTORS)
    return {**params, "bridge": {"map": {"linear": {"kernel": WEIGHTS.T, "bias": OFFSET}}}}


def examples(items, labels) -> Examples:
    items = np.asarray(items)
    blank = jnp.zeros((*items.shape, 0))
    mask = jnp.asarray(items >= 0)
    inputs = Inputs(blank, blank, jnp.asarray(np.maximum(items, 0)))
    return Examples(inputs, jnp.asarray(labels, jnp.float32), mask)


# Two users of both domains, one of whom has shown a row of the target, and one of the target alone.
SUPPORT = examples([[0, 2, 4], [1, -1, -1], [-1, -1, 3]], RNG.normal(size=(3, 3)) + 1)
QUERY = examples([[3, 5], [5, 4], [4, 5]], RNG.normal(size=(3, 2)) - 1)
TASKS = Task(SUPPORT, QUERY)


def place_of(task: int, side: int) -> np.ndarray:
    """The textbook's posterior mean of a user in one of the domains."""
    rows = [
        (int(item), float(label))
        for part in TASKS
        for item, label, shown in zip(
            part.inputs.item[task], part.labels[task], part.mask[task], strict=True
        )
        if shown and DOMAIN[item] == side
    ]
    items, labels = np.array([r[0] for r in rows], int), np.array([r[1] for r in rows])
    x, noise = np.asarray(FACTORS.embedding)[items], float(FACTORS.noise[side])
    surprise = labels - np.asarray(FACTORS.bias)[items]
    return np.linalg.solve(np.eye(WIDTH) + x.T @ x / noise, x.T @ surprise / noise)


def learner(loss=None, outer=None):
    outer = optax.sgd(0.1) if outer is None else outer
    return cross_domain.emcdr(MODEL._replace(init=start), loss, outer=outer)


def test_the_loss_is_the_distance_from_the_mapped_place_to_the_users_own():
    """Who has no row of the source is not mapped; the mean is over all tasks."""
    rule = learner()
    state = rule.init(jax.random.key(0), TASKS)
    _, metrics = jax.jit(rule.update)(state, TASKS)
    distances = [
        np.sum((WEIGHTS @ place_of(task, 0) + OFFSET - place_of(task, 1)) ** 2) for task in (0, 1)
    ]
    np.testing.assert_allclose(metrics["loss"], sum(distances) / 3, rtol=1e-5)


def test_the_map_learns_and_the_embeddings_stay():
    rule = learner(outer=optax.adamw(0.05, weight_decay=0.1))

    @jax.jit
    def trained(state):
        return jax.lax.scan(lambda state, _: rule.update(state, TASKS), state, length=60)

    state = rule.init(jax.random.key(0), TASKS)
    after, metrics = trained(state)
    # Two users fix a map of two directions.
    assert metrics["loss"][-1] < 0.1 * metrics["loss"][0]
    for leaf, before in zip(after.params["factors"], FACTORS, strict=True):
        np.testing.assert_array_equal(leaf, before)


def test_with_a_loss_of_ratings_the_query_judges_the_map():
    rule = learner(losses.squared_error)
    state = rule.init(jax.random.key(0), TASKS)
    _, metrics = jax.jit(rule.update)(state, TASKS)

    def error(task: Task) -> jax.Array:
        scores = rule.predict(state.params, rule.adapt(state.params, task.support), task[1].inputs)
        return losses.squared_error(scores, task.query.labels, where=task.query.mask)

    expected = jnp.mean(jax.jit(jax.vmap(error))(TASKS))
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
