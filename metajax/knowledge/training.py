"""Training of link predictors: settings, epochs, validation by rank and early stopping."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.fields import Range, bounded, check_fields
from metajax.knowledge.graph import KnowledgeGraph
from metajax.knowledge.link_prediction import LinkPredictor, link_predictor
from metajax.knowledge.negative_sampling import TrainingTriples, training_triples
from metajax.knowledge.ranking import filtered_ranks, ranking_metrics
from metajax.knowledge.splits import check_seen
from metajax.training import DivergedError, Progress, begin
from metajax.types import MetaState, Params

__all__ = [
    "Epoch",
    "GraphSettings",
    "begin_links",
    "predictor_of",
    "train_links",
]


@dataclasses.dataclass(frozen=True)
class GraphSettings:
    """Settings of training on a knowledge graph, of the library and of `metajax graph train`.

    Raises:
        ValueError: If a number is out of its range; those of the link predictor are checked by
            `predictor_of`, those of the split by `split_graph`.
    """

    source: str = ""
    """A name (ml-100k) or a file: RDF (.ttl, .nt, .rdf, ...), .kg, or .tsv or .csv of head,
    relation and tail; or a folder with files train, valid and test, whose split is kept."""
    _: dataclasses.KW_ONLY
    link: str | None = None
    """A RecBole .link file: the entity of each item."""
    item_prefix: str | None = None
    """Prefix of an item's id in the name of its entity."""
    literals: Literal["error", "attributes"] = "error"
    """Literals in the place of a tail: an error, or attributes."""
    base_iri: str | None = None
    """What relative IRIs of RDF are relative to; by default the address of the file."""
    without: tuple[str, ...] = ()
    """Patterns of relations to drop, such as *award*; may be repeated."""
    share: float = 0.05
    """Share of test triples; as many are for validation. 0 trains on all triples."""
    inverse_share: float = 0.8
    """Least share of reversed triples for a relation to count as the inverse of another."""

    score: str = "RotatE"
    """Score of a triple: RotatE, TransE, DistMult or ComplEx."""
    width: int = 32
    """Embedding dimension, complex where the score is."""
    margin: float = bounded(6.0, search=Range(1.0, 12.0))
    """Added to the score: the distance at which a triple is as likely true as not."""
    temperature: float = bounded(1.0, search=Range(0.0, 2.0))
    """Inverse temperature of the weights of negatives; 0 weights all alike."""
    negatives: int = bounded(16, search=Range(5, 20))
    """Negatives of each triple, for each of head, relation and tail."""
    rate: float = bounded(0.01, above=0, search=Range(1e-3, 0.1, log=True))
    """Learning rate of Adam."""
    batch: int = 1024
    """Triples of an update."""
    chunk: int = bounded(32, least=1)
    """Triples that share negatives; the greatest common divisor with the batch is used."""
    epochs: int = bounded(60, least=1)
    """Most epochs."""
    seed: int = bounded(0, least=0)
    """Seed of the split, the initial embeddings, the order of triples, and the negatives."""

    validate_every: int = bounded(10, least=1)
    """Epochs between validations."""
    patience: int = bounded(3, least=1)
    """Validations without improvement before training stops."""
    queries: int = bounded(500, least=1)
    """Most validation triples that are ranked, drawn once."""
    divergence_factor: float = bounded(1e3, least=1)
    """Training has diverged if an embedding exceeds the initial bound by this factor."""

    def __post_init__(self):
        """Refuses values of the wrong type or out of range."""
        check_fields(self)


class Epoch(NamedTuple):
    """Record of one epoch."""

    step: int
    """Updates so far."""
    epoch: int
    """Epochs so far."""
    loss: float
    """Mean training loss."""
    largest: float
    """Largest absolute number of an entity embedding."""
    validation: float | None
    """MRR of validation triples; None between validations."""


def predictor_of(settings: GraphSettings) -> LinkPredictor:
    """Builds a link predictor; settings that differ in other fields share one, and its programs.

    Raises:
        ValueError: If a field is out of its range.
    """
    return _predictor(
        settings.score,
        settings.rate,
        settings.width,
        settings.margin,
        settings.temperature,
        settings.negatives,
        settings.batch,
        math.gcd(settings.batch, settings.chunk),
    )


# Programs compiled for one training serve the next.
@functools.lru_cache(maxsize=8)
def _predictor(
    score: str,
    rate: float,
    width: int,
    margin: float,
    temperature: float,
    negatives: int,
    batch: int,
    chunk: int,
) -> LinkPredictor:
    return link_predictor(
        score,
        optax.adam(rate),
        width=width,
        margin=margin,
        temperature=temperature,
        negatives=negatives,
        batch=batch,
        chunk=chunk,
    )


def begin_links(
    training: KnowledgeGraph,
    settings: GraphSettings = GraphSettings(),
    *,
    predictor: LinkPredictor | None = None,
) -> Progress:
    """Initialises training with random embeddings for all names of a graph.

    Args:
        training: The graph.
        settings: Give the seed.
        predictor: The link predictor; None: `predictor_of(settings)`.

    Returns:
        The progress before the first epoch.
    """
    predictor = predictor_of(settings) if predictor is None else predictor
    first, _ = jax.random.split(jax.random.key(settings.seed))
    entities, relations = len(training.entities.names), len(training.relations.names)
    return begin(predictor.init(first, entities=entities, relations=relations))


def train_links(
    training: KnowledgeGraph,
    validation: KnowledgeGraph | None,
    settings: GraphSettings = GraphSettings(),
    progress: Progress | None = None,
    *,
    predictor: LinkPredictor | None = None,
) -> Iterator[tuple[Progress, Epoch]]:
    """Trains for `settings.epochs`, or until validation ranks stop improving.

    An epoch depends on the seed and its number alone, so a run resumed from any yielded progress
    continues to the same bits. Stop iterating to stop training.

    Args:
        training: Training triples. Names without a triple are drawn as negatives and ranked like
            all others; `drop_unused` removes them.
        validation: Triples of the same names, from `split_triples`; None: no validation, all
            epochs.
        settings: Of the model and its training; those of the source and the split are not used.
        progress: Initial progress; None: `begin_links`.
        predictor: A link predictor with another optimizer, say; None: `predictor_of(settings)`.

    Yields:
        After each epoch the progress, whose `best` parameters have the best validation ranks and
        whose `best_loss` is 1 - MRR, and its record.

    Raises:
        ValueError: If validation has other names, or entities or relations that training lacks.
        DivergedError: If the loss or an embedding is not finite, or an embedding is too large;
            the last progress that was yielded is still good.

    Example:
        >>> from metajax.knowledge import graph_from_names
        >>> ring = graph_from_names([(str(n), "next", str((n + 1) % 5)) for n in range(5)])
        >>> settings = GraphSettings(width=4, batch=4, rate=0.05, epochs=3)
        >>> rows = [row for _, row in train_links(ring, None, settings)]
        >>> [(row.epoch, row.step) for row in rows], rows[2].loss < rows[0].loss
        ([(1, 2), (2, 4), (3, 6)], True)
    """
    predictor = predictor_of(settings) if predictor is None else predictor
    if validation is not None:
        # Indices have the same meaning only then.
        for what in ("entities", "relations"):
            if getattr(validation, what).names != getattr(training, what).names:
                raise ValueError(
                    f"validation must have the {what} of training in the same order, got others."
                )
        check_seen(training, validation)
    if progress is None:
        progress = begin_links(training, settings, predictor=predictor)
    entities, relations = len(training.entities.names), len(training.relations.names)
    data = training_triples(training.triples, entities=entities, relations=relations)
    mrr_of = None if validation is None else _judge(predictor, training, validation, settings)
    _, key = jax.random.split(jax.random.key(settings.seed))
    limit = settings.divergence_factor * predictor.bound
    updates = -(-training.count // predictor.batch)
    epoch = int(progress.state.step) // updates

    def is_patient() -> bool:
        waited = epoch - int(progress.best_step) // updates
        return waited < settings.patience * settings.validate_every

    while epoch < settings.epochs and is_patient():
        state, loss, largest = _epoch(
            progress.state, data, jax.random.fold_in(key, epoch), predictor=predictor
        )
        epoch += 1
        step = epoch * updates
        if not np.isfinite(loss):
            raise DivergedError(step, float(loss), "loss")
        if not largest <= limit:
            what = f"largest number of an embedding (at most {limit:.3g} is sound)"
            raise DivergedError(step, float(largest), what)
        progress, mrr = progress._replace(state=state), None
        if mrr_of is None:
            progress = progress._replace(best=state.params, best_step=state.step)
        elif epoch % settings.validate_every == 0 or epoch == settings.epochs:
            mrr = mrr_of(state.params)
            if 1 - mrr < progress.best_loss:
                progress = progress._replace(
                    best=state.params, best_loss=jnp.array(1 - mrr), best_step=state.step
                )
        yield progress, Epoch(step, epoch, float(loss), float(largest), mrr)


@partial(jax.jit, static_argnames=("predictor",))
def _epoch(
    state: MetaState, data: TrainingTriples, key: jax.Array, *, predictor: LinkPredictor
) -> tuple[MetaState, jax.Array, jax.Array]:
    state, metrics = predictor.epoch(state, data, key)
    return state, metrics["loss"], _largest(state.params)


def _largest(params: Params) -> jax.Array:
    """Largest absolute number of an entity embedding; NaN if any parameter is not finite."""
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()
    sizes = [jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(params["entity"])]
    return jnp.where(finite, jnp.max(jnp.stack(sizes)), jnp.nan)


def _judge(
    predictor: LinkPredictor,
    training: KnowledgeGraph,
    validation: KnowledgeGraph,
    settings: GraphSettings,
) -> Callable[[Params], float]:
    """Returns the MRR of a fixed sample of the validation triples as a function."""
    order = np.random.default_rng(settings.seed).permutation(validation.count)
    sample = validation.triples[np.sort(order[: settings.queries])]
    known = np.concatenate([training.triples, validation.triples])

    def mrr_of(params: Params) -> float:
        ranks = filtered_ranks(
            predictor.score,
            params,
            sample,
            entities=len(training.entities.names),
            relations=len(training.relations.names),
            known=known,
        )
        return ranking_metrics(ranks)["mrr"]

    return mrr_of
