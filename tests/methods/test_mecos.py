import jax
import jax.numpy as jnp
import numpy as np

from metajax.methods.mecos import PairNetwork
from metajax.networks import from_support_module
from metajax.types import Examples, Sequences

ITEMS, WIDTH, LENGTH = 5, 3, 4
RNG = np.random.default_rng(0)
MODEL = from_support_module(PairNetwork(ITEMS, 2, WIDTH, steps=2))


def sequences_of(*rows) -> Sequences:
    item = np.array([row + [0] * (LENGTH - len(row)) for row in rows])
    features = RNG.normal(size=(len(rows), 1))
    return Sequences(*map(jnp.asarray, (item, np.array([len(row) for row in rows]), features)))


SUPPORT = Examples(sequences_of([1, 2], [3], [0]), jnp.ones(3), jnp.array([True, True, False]))
QUERY = sequences_of([4, 0, 2, 1], [2, 3])


def drawn():
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), QUERY)
    return jax.tree.map(lambda leaf: jnp.asarray(RNG.normal(size=leaf.shape)), shapes)


PARAMS = drawn()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(x, layer):
    return x @ np.asarray(layer["kernel"]) + np.asarray(layer.get("bias", 0))


def lstm_step(params, memory, hidden, x):
    i, f, g, o = (dense(x, params[f"i{n}"]) + dense(hidden, params[f"h{n}"]) for n in "ifgo")
    memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
    return memory, sigmoid(o) * np.tanh(memory)


def pairs_by_hand(inputs):
    pairs = []
    cell = PARAMS["lstm"]["cell"]
    for item, length, features in zip(*map(np.asarray, inputs), strict=True):
        memory, hidden, states = np.zeros(WIDTH), np.zeros(WIDTH), []
        for i in item[:length]:
            x = np.asarray(PARAMS["item_embedding"]["embedding"])[i]
            memory, hidden = lstm_step(cell, memory, hidden, x)
            states.append(hidden)
        weights = np.exp([hidden @ state / np.sqrt(WIDTH) for state in states])
        found = weights @ np.array(states) / weights.sum()
        joined = np.concatenate([hidden, found, features])
        first = np.maximum(dense(joined, PARAMS["pair"]["layer_0"]), 0)
        pairs.append(dense(first, PARAMS["pair"]["layer_1"]))
    return np.array(pairs)


def test_it_is_the_arithmetic_of_its_parts():
    weight = np.exp(PARAMS["weight"])
    support = weight * np.asarray(PARAMS["prior"]) + pairs_by_hand(SUPPORT.inputs)[:2].sum(axis=0)
    support /= weight + 2
    state = MODEL.encode(PARAMS, SUPPORT)
    np.testing.assert_allclose(state, support, rtol=1e-5, atol=1e-6)
    scores = []
    for pair in pairs_by_hand(QUERY):
        memory, hidden = np.zeros(WIDTH), np.zeros(WIDTH)
        for _ in range(2):
            seen = np.concatenate([pair, support])
            memory, refined = lstm_step(PARAMS["cell"], memory, hidden, seen)
            hidden = refined + pair
        scores.append(hidden @ support / np.sqrt(WIDTH) + dense(pair, PARAMS["zero_shot"])[0])
    found = MODEL.decode(PARAMS, state, QUERY)
    np.testing.assert_allclose(found, scores, rtol=1e-5, atol=1e-5)


def test_padding_of_a_sequence_adds_nothing():
    longer = jnp.pad(QUERY.item, ((0, 0), (0, 2)), constant_values=3)
    state = MODEL.encode(PARAMS, SUPPORT)
    np.testing.assert_allclose(
        MODEL.decode(PARAMS, state, QUERY._replace(item=longer)),
        MODEL.decode(PARAMS, state, QUERY),
        rtol=1e-6,
    )
