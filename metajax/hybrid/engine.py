"""The hybrid engine: one method for ratings and order, at any number of interactions.

Experts in closed form are cross-fitted over users: what each says of users it has not seen trains
two heads over one state of the user, a rating head (`metajax.hybrid.rating`) and a ranking head
(`metajax.hybrid.ranking`). Then the experts are fitted again to everyone.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines import Baseline, Blend
from metajax.baselines.baseline import observed
from metajax.data.cold_users import padded
from metajax.data.dataset import Shapes, TrainingSet
from metajax.data.interactions import select_users
from metajax.data.splits import ColdTasks, Order, cold_user_tasks
from metajax.fields import check_keys, check_name
from metajax.gaussian import covariance_root
from metajax.hybrid.arrival import KNOTS, Arrival, arrived, fit_arrival
from metajax.hybrid.experts import (
    EXPERTS,
    MOST_WEIGHED,
    Expert,
    ItemScores,
    Shared,
    members_of,
    memory_of,
    of_method,
    trimmed,
)
from metajax.hybrid.ranking import (
    Lists,
    RankingHead,
    candidates,
    expert_weights,
    fit_blends,
    fit_ranking_head,
    is_schedule,
    merged,
)
from metajax.hybrid.rating import (
    Columns,
    RatingHead,
    Rows,
    blended,
    columns_of,
    fit_rating_head,
    head_scores,
)
from metajax.hybrid.support import PACE, Summary, Tables, fit_tables, summarised
from metajax.hybrid.tastes import RATERS, Taste, Tastes, adapt_taste, fit_tastes, predicted
from metajax.types import Adaptation, Examples, Expectation, Inputs, Params, Task

__all__ = ["BY_ORDER", "Fitted", "State", "baselines", "hybrid", "weights_by_number"]

BY_ORDER: tuple[Mapping[str, Any], ...] = ({}, {"order": "random"}, {"order": "time"})
"""Settings among which each panel of a protocol may choose, as tuned baselines do."""

_POOL = max(KNOTS)
_FOLDS = 5
_MOST_USERS = 1500
# From so many users on the parts share a fit, without all that are judged: few of the users.
_MANY_USERS = 10 * _MOST_USERS
_QUERY = 128
# Users whose lists are scored at once, and scores of all of them together.
_CHUNK, _MOST_SCORES = 64, 1 << 26
_EACH, _POPULAR, _DRAWN = 8, 64, 128
_SETTINGS = ("order", "seed", "without", "constant_gate", "correction")
# Probability of a kind of supports that was not fitted to.
_NEVER = 1e-6


class Fitted(NamedTuple):
    """Parameters of a hybrid engine."""

    experts: tuple[Params, ...]
    """Of each expert that orders."""
    tables: Tables
    """Items and attributes."""
    tastes: Tastes | None
    """Gaussian models of ratings; None in an implicit log."""
    scale: tuple[jax.Array, jax.Array]
    """Lowest and highest label."""
    rating: RatingHead | None
    """None in an implicit log, and where no user could be held out."""
    ranking: RankingHead
    """The gate of the experts."""
    arrival: Arrival
    """Whether a support is of the first interactions."""


class State(NamedTuple):
    """Adapted state of a user."""

    experts: tuple[Any, ...]
    """State of each expert."""
    taste: Taste | None
    """Latents; None in an implicit log."""
    summary: Summary
    """Statistics of the support."""
    first: jax.Array
    """`[]` probability that it is of the first interactions."""
    seen: tuple[jax.Array, jax.Array, jax.Array]
    """`[S]` items, labels, and 1 where there is one."""


Experts = tuple[Expert, ...]


class _Base(NamedTuple):
    """The parts that are fitted to training users without held-out ones."""

    experts: tuple[Params, ...]
    tables: Tables
    tastes: Tastes | None
    scale: tuple[jax.Array, jax.Array]


class _Evidence(NamedTuple):
    """The cross-fitted experts' columns for held-out users."""

    rows: dict[Order, list[dict[int, Rows]]]
    """By order of the support, of each part of the users, by number shown."""
    lists: dict[Order, list[Lists]]
    """By order of the support, of each part and number shown."""
    values: dict[Order, list[np.ndarray]]
    """By order of the support, of each part and number shown, statistics of the supports."""
    of_support: np.ndarray
    """As in `fit_rating_head`."""


def hybrid(
    name: str = "hybrid",
    *,
    more: Sequence[tuple[Baseline, Mapping[str, Any]]] = (),
    grid: Sequence[Mapping[str, Any]] = ({},),
) -> Baseline:
    """Makes a hybrid engine.

    Args:
        name: Its name in tables.
        more: Further methods, with settings of their fit: the order of the items by each is an
            expert, and its ratings, where it predicts them, a model of the rating head. Methods
            that are trained by updates come as `evaluation.trained_expert`.
        grid: Settings to choose among on validation users: by default one engine for both orders
            of supports, which is what serves people; `BY_ORDER` also has one for each.

    Returns:
        A method in closed form, of the kind "learned", that predicts ratings and orders.

    References:
        Wolpert, Stacked Generalization, Neural Networks 5, 1992, for fitting a blend to
        predictions for what its members have not seen.
    """
    added = tuple(of_method(method, **settings) for method, settings in more)

    experts = (*EXPERTS, *added)
    fit_many = partial(_fit_many, experts)
    return Baseline(
        name,
        "both",
        lambda training, **settings: fit_many(training, [settings])[0],
        Adaptation(
            partial(_adapt, experts),
            _predict_both(experts),
            _predict_variance,
            partial(_rank, experts),
            _expectation_of(experts),
        ),
        grid=tuple(grid),
        kind="learned",
        fit_many=fit_many,
        blend=Blend(
            lambda params: _names(experts),
            partial(_parts, experts),
            partial(weights_by_number, more=[method.name for method, _ in more]),
        ),
        refit=partial(_refit, experts),
        memory=_memory,
        reduced=_reduced,
    )


def weights_by_number(
    params: Fitted, more: Sequence[str] = ()
) -> dict[str, dict[str, dict[int, float]]]:
    """Tells which experts order the items, by the number of interactions shown.

    Args:
        params: A fitted engine.
        more: Names of the further methods that it was made with.

    Returns:
        By kind of support, "any" for any of a user's interactions and "first" for the first ones;
        by name of the expert; by number of interactions: its weight in standard deviations of its
        scores, as a share of all. Experts that were dropped are not there, nor is a kind that no
        support is taken for: without times, or where the engine was fitted to the other alone.
    """
    *names, last = _names(EXPERTS)
    names = [*names, *more, last]
    weights, kept = np.array(params.ranking.weights), np.isfinite(params.ranking.scale)
    # Without interactions nothing tells the kinds apart, and both have the blend of the two.
    empty = float(jax.nn.sigmoid(jnp.max(params.arrival.weights[..., 0, 0])))
    weights[:, 0] = (1 - empty) * weights[0, 0] + empty * weights[1, 0]
    shares = (
        weights * kept / np.maximum(np.sum(np.abs(weights) * kept, axis=2, keepdims=True), 1e-9)
    )
    return {
        kind: {
            name: {k: float(table[at, column]) for at, k in enumerate(KNOTS)}
            for column, name in enumerate(names)
            if kept[column]
        }
        for kind, table, share in zip(("any", "first"), shares, (1 - empty, empty), strict=True)
        if share > _NEVER
    }


def _memory(shapes: Shapes, **settings: Any) -> float:
    """Experts of everyone, and what it takes to fit those of users who are not held out."""
    kept, most = memory_of(shapes)
    return kept + most


def _reduced(items: int) -> tuple[str, ...]:
    """Tells what is left out for a large catalogue."""
    found, members = [], members_of(items)
    if items > MOST_WEIGHED:
        found.append(
            f"weights between items are of the {MOST_WEIGHED:,} that most users have, as the "
            f"catalogue has {items:,} items"
        )
    if members < members_of(1):
        found.append(
            f"at most {members:,} users are remembered and not {members_of(1):,}, as the catalogue "
            f"has {items:,} items"
        )
    return tuple(found)


def _names(experts: Sequence[Expert]) -> tuple[str, ...]:
    """Names the columns of the experts, and last the personal rating."""
    return (*(column for expert in experts for column in expert.columns), "predicted rating")


def _fit_many(
    experts: Experts,
    training: TrainingSet,
    settings: Sequence[Mapping[str, Any]],
) -> list[Fitted]:
    """Cross-fits the experts once, fits heads for each setting, and the experts to everyone.

    Args:
        experts: Those that order the items.
        training: The training users.
        settings: Each with `order`, of the supports that the heads are fitted to: "random" for any
            of a user's interactions, "time" for the first ones, "both", which is the default, for
            people of whom it is not known; and `seed`, of the parts of the users. For ablations:
            `without`, names of columns of experts and of models of ratings that are left out;
            `constant_gate`, True for weights that are the same at every number of interactions
            from one on; and `correction`, False for a rating head that only blends its models.

    Returns:
        The parameters for each setting.

    Raises:
        ValueError: If a setting is unknown or out of range, or the log is empty.
    """
    for setting in settings:
        _check(training, setting)
    names = _names(experts)
    raters = _raters(experts)
    for setting in settings:
        for left_out in setting.get("without", ()):
            check_name(left_out, (*names, *raters), "without")
    base = _base(training, experts)
    found: dict[int, _Evidence] = {}
    heads: dict[tuple[Any, ...], RatingHead | None] = {}
    fitted = []
    for setting in settings:
        seed, corrected = setting.get("seed", 0), setting.get("correction", True)
        if seed not in found:
            found[seed] = _cross_fitted(training, experts, seed, base.tables)
        without = tuple(name for name in raters if name in setting.get("without", ()))
        key = seed, without, corrected
        if key not in heads:
            heads[key] = _rating_head(found[seed], raters, without, corrected=corrected)
        fitted.append(Fitted(*base, heads[key], *_gate(base, found[seed], names, setting)))
    return [_without_dropped(experts, one) for one in fitted]


def _check(training: TrainingSet, setting: Mapping[str, Any]) -> None:
    check_keys(setting, _SETTINGS, "settings of hybrid")
    check_name(setting.get("order", "both"), ("both", "random", "time"), "order")
    if not len(training.interactions.item):
        raise ValueError("training must hold at least one interaction, got none.")


def _refit(experts: Experts, params: Fitted, training: TrainingSet, **setting: Any) -> Fitted:
    """Fits experts, tables and tastes anew, and keeps what cross-fitting has found.

    Both heads and the regression of arrivals are kept: they are of users whom the experts had not
    seen, and of columns whose meaning `fit_tables` keeps. So there is one fit in place of six, and
    the gate is not trained. Where there were too few users to learn it, nothing is kept.

    Args:
        experts: Those that order the items.
        params: Of an earlier fit.
        training: The training users, with attributes as they were encoded for that fit.
        **setting: Of that fit.

    Returns:
        The parameters.

    Raises:
        ValueError: As `_fit_many`, or if columns of the earlier fit are missing.
    """
    _check(training, setting)
    columns = len(_names(experts))
    if columns != len(params.ranking.scale):
        raise ValueError(
            f"hybrid was fitted with {len(params.ranking.scale)} columns of experts, these data "
            f"have {columns}: fit it from scratch."
        )
    if (params.tastes is None) != (training.scale is None):
        had, have = ("without", "some") if params.tastes is None else ("with", "none")
        raise ValueError(f"hybrid was fitted {had} ratings and the data have {have}.")
    if is_schedule(params.ranking, _names(experts)):
        return _fit_many(experts, training, [setting])[0]
    base = _base(training, experts, params.tables)
    return _without_dropped(experts, params._replace(**base._asdict()))


def _base(training: TrainingSet, experts: Sequence[Expert], earlier: Tables | None = None) -> _Base:
    shared = Shared(training)
    low, high = training.scale or (0.0, 1.0)
    return _Base(
        tuple(expert.fit(shared) for expert in experts),
        fit_tables(shared, earlier),
        None if training.scale is None else fit_tastes(shared),
        (jnp.float32(low), jnp.float32(high)),
    )


def _raters(experts: Sequence[Expert]) -> tuple[str, ...]:
    """Names the models of ratings."""
    return (*RATERS, *(expert.columns[0] for expert in experts if expert.rates is not None))


def _rating_head(
    evidence: _Evidence, raters: Sequence[str], without: Sequence[str], *, corrected: bool
) -> RatingHead | None:
    kinds = [parts for parts in evidence.rows.values() if parts]
    if not kinds:
        return None
    return fit_rating_head(
        kinds, evidence.of_support, raters, without=without, corrected=corrected
    )[0]


def _gate(
    base: _Base,
    evidence: _Evidence,
    names: Sequence[str],
    setting: Mapping[str, Any],
) -> tuple[RankingHead, Arrival]:
    """Fits the gate to supports of one order or of both, and what tells the two apart."""
    order = setting.get("order", "both")
    kinds = [merged(parts) for parts in evidence.lists.values() if parts]
    statistics = [np.concatenate(parts) for parts in evidence.values.values() if parts]
    arrival = fit_arrival([lists.count for lists in kinds], statistics, PACE, order)
    lists = [
        found._replace(first=np.asarray(_arrived(arrival, values, found.count)))
        for found, values in zip(kinds, statistics, strict=True)
    ]
    if order != "both":
        lists = lists[-1:] if order == "time" else lists[:1]
    ranking, _ = fit_ranking_head(
        merged(lists),
        names,
        without=setting.get("without", ()),
        constant=setting.get("constant_gate", False),
        seed=setting.get("seed", 0),
    )
    return ranking, arrival


@jax.jit
def _arrived(params: Arrival, values: np.ndarray, count: np.ndarray) -> jax.Array:
    """Returns `[T]` probabilities for `[T, V]` statistics of supports of `[T]` interactions."""
    known = jnp.ones((), bool)
    return jax.vmap(lambda v, k: arrived(params, v, k, known))(values, count)


def _joined(rows: Sequence[Rows]) -> Rows:
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *rows)


def _cross_fitted(
    training: TrainingSet, experts: Sequence[Expert], seed: int, tables: Tables
) -> _Evidence:
    """Fits the experts without each part of the users, and collects what they say of it.

    At most `_MOST_USERS` are judged; of a log of many users one fit without them serves all parts.
    The axes and cells of attributes are those of `tables`, of everyone: columns along axes of each
    part's own would mean something else in each.
    """
    log = training.interactions
    rng = np.random.default_rng(seed)
    users = rng.permutation(log.users)
    orders: tuple[Order, ...] = ("random", "time") if log.timed else ("random",)
    rows, lists, values = ({order: [] for order in orders} for _ in range(3))
    blends = np.zeros((2, len(KNOTS), len(_names(experts))), np.float32)
    parts = min(_FOLDS, len(users))
    many, base = len(users) >= _MANY_USERS, None
    for part in range(parts):
        held = users[part::parts]
        if base is None or not many:
            left_out = users[:_MOST_USERS] if many else held
            # A single user is seen by the experts: their lists tell the columns' scales alone.
            others = np.setdiff1d(users, left_out) if parts > 1 else users
            rest = training._replace(interactions=select_users(log, others))
            base = None  # The memory of the last part is free for this one.
            base = _base(rest, experts, tables)
        judged = np.sort(held[: -(-_MOST_USERS // parts)])
        for order in orders:
            tasks = cold_user_tasks(log, judged, pool=_POOL, order=order, seed=seed)
            if not len(tasks.user):
                continue
            batch = padded(tasks, training, query=_QUERY)
            found: dict[int, Rows] = {}
            for knot, lifting in zip(KNOTS, np.swapaxes(blends, 0, 1), strict=True):
                rated, ranked, statistics = _columns(
                    base, experts, training, tasks, batch, knot, lifting
                )
                lists[order].append(ranked)
                values[order].append(statistics)
                if rated is not None and parts > 1:
                    found[knot] = rated
            if found:
                rows[order].append(found)
        kinds = [merged(found) for found in lists.values() if found]
        if kinds and part < parts - 1:
            blends = fit_blends(kinds, blends)
    return _Evidence(rows, lists, values, _of_support(rows))


def _columns(
    base: _Base,
    experts: Sequence[Expert],
    training: TrainingSet,
    tasks: ColdTasks,
    batch: Task,
    knot: int,
    blends: np.ndarray,
) -> tuple[Rows | None, Lists, np.ndarray]:
    """Computes what both heads are fitted to, of users of whom `knot` interactions are shown.

    The lists hold the best items by `blends` `[2, E]` too.

    Returns:
        Rows of ratings, None in an implicit log; lists; and `[T, V]` statistics of the supports.
    """
    users = len(tasks.user)
    catalogue = jnp.asarray(training.item_features)
    popular = jax.lax.top_k(base.tables.reach, min(_POPULAR, len(catalogue)))[1]
    rng = np.random.default_rng(knot)
    relevant, shown, pooled = _pairs(tasks, knot, len(catalogue), training.threshold)
    rows, scored = [], []
    width = _numbers(tuple(experts), base, batch, catalogue) + len(blends) * len(catalogue)
    size = min(_CHUNK, max(_MOST_SCORES // width, 1))
    for start in range(0, users, size):
        at = np.minimum(np.arange(start, start + size), users - 1)
        part = jax.tree.map(lambda leaf, at=at: leaf[at], batch)
        # Items far from every list keep the gate from weights that would lift them there.
        drawn = rng.integers(0, len(catalogue), _DRAWN)
        always = jnp.concatenate([popular, jnp.asarray(drawn, popular.dtype)])
        outputs = _scored(tuple(experts), base, part, catalogue, always, knot, blends)
        kept = min(size, users - start)
        outputs = jax.tree.map(lambda leaf, kept=kept: np.asarray(leaf)[:kept], outputs)
        rows.append(outputs[0])
        scored.append(outputs[1:])
    item, first, columns, count, statistics = jax.tree.map(
        lambda *leaves: np.concatenate(leaves), *scored
    )
    pair = np.arange(users)[:, None] * len(catalogue) + item
    mask = first & ~np.isin(pair, shown)
    hit, rest = np.isin(pair, relevant) & mask, np.isin(pair, pooled)
    best = [
        _dcg(np.bincount(found // len(catalogue), minlength=users))
        for found in (relevant, np.setdiff1d(relevant, pooled))
    ]
    reach = [
        _dcg(found.sum(axis=1)) / np.maximum(most, 1e-9)
        for found, most in zip((hit, hit & ~rest), best, strict=True)
    ]
    lists = Lists(
        columns.astype(np.float16),
        hit,
        mask,
        rest,
        np.stack(reach, axis=1).astype(np.float32),
        count,
        np.zeros(users, np.float32),
        tasks.user.astype(np.int32),
    )
    if base.tastes is None:
        return None, lists, statistics
    asked = np.diff(tasks.query_offsets).astype(np.float32)
    weight = asked / np.maximum(np.minimum(asked, _QUERY), 1)
    return _joined(rows)._replace(weight=weight), lists, statistics


def _dcg(relevant: np.ndarray) -> np.ndarray:
    """Returns the DCG@10 of lists that begin with so many relevant items."""
    gains = 1 / np.log2(2.0 + np.arange(10))
    return np.concatenate([[0.0], np.cumsum(gains)])[np.minimum(relevant, 10)]


def _pairs(tasks: ColdTasks, knot: int, items: int, least: float) -> tuple[np.ndarray, ...]:
    """Lists items of held-out users of whom `knot` interactions are shown.

    Returns:
        Places in a table `[T, I]`, which would be too large: of what is relevant beyond what is
        shown, of what is shown, and of the rest of the pool.
    """
    row, column = np.nonzero(tasks.support_mask)
    own = row * items + tasks.support_item[row, column]
    shown, liked = column < knot, tasks.support_rating[row, column] >= least
    task = np.repeat(np.arange(len(tasks.user)), np.diff(tasks.query_offsets))
    asked = (task * items + tasks.query_item)[tasks.query_rating >= least]
    return np.concatenate([asked, own[~shown & liked]]), own[shown], own[~shown]


@partial(jax.jit, static_argnames=("experts",))
def _scored(
    experts: Experts,
    base: _Base,
    tasks: Task,
    catalogue: jax.Array,
    always: jax.Array,
    knot: jax.Array,
    blends: jax.Array,
) -> Any:
    """Returns rows of ratings, and items, firsts, columns, count and statistics of lists."""

    def one(task: Task) -> Any:
        shown = task.support.mask & (jnp.arange(task.support.mask.shape[0]) < knot)
        support = task.support._replace(mask=shown)
        state = _state(experts, base, support)
        scores = _item_scores(experts, base, state, support, catalogue)
        item, first = candidates(scores, blends, always, _EACH)
        listed = jnp.concatenate([part.of(item) for part in scores], axis=1)
        rows = None
        if base.tastes is not None:
            columns = _rating_columns(experts, base, state, task.query.inputs)
            tastes, taste = _models(base, state)
            spread = predicted(tastes, taste, task.query.inputs.item)[1][:, 1]
            variance = spread + taste.noise
            query = task.query
            rows = Rows(
                columns, state.summary.count, query.labels, query.mask, variance, jnp.ones(())
            )
        return rows, item, first, listed, state.summary.count, state.summary.moments

    return jax.vmap(one)(tasks)


def _item_scores(
    experts: Experts, base: _Base, state: State, support: Examples, catalogue: jax.Array
) -> tuple[ItemScores, ...]:
    """Returns scores of all items by each expert, and last the personal rating."""
    user = support.inputs.user_features[0]
    everything = jnp.arange(len(catalogue), dtype=jnp.int32)
    features = jnp.broadcast_to(user, (len(catalogue), len(user)))
    inputs = Inputs(features, catalogue, everything)
    found = [
        ItemScores(expert.scores(params, own, inputs).T)
        if expert.everywhere is None
        else expert.everywhere(params, own)
        for expert, params, own in zip(experts, base.experts, state.experts, strict=True)
    ]
    return (*found, ItemScores(_personal(base, state, everything)[None]))


def _numbers(experts: Experts, base: _Base, tasks: Task, catalogue: jax.Array) -> int:
    """Returns how many scores there are of one user."""

    def one(base: _Base, support: Examples, catalogue: jax.Array) -> tuple[ItemScores, ...]:
        return _item_scores(experts, base, _state(experts, base, support), support, catalogue)

    support = jax.tree.map(lambda leaf: leaf[0], tasks.support)
    found = jax.eval_shape(one, base, support, catalogue)
    return sum(part.values.size for part in found)


def _of_support(kinds: Mapping[Order, Sequence[Mapping[int, Rows]]]) -> np.ndarray:
    """Returns which side information an empty support has not: what is the same for all then."""
    for parts in kinds.values():
        for rows in parts:
            columns = rows[0].columns
            widths = columns.user.shape[-1], columns.item.shape[-1], columns.both.shape[-1]
            user = np.ptp(columns.user, axis=0) == 0
            both = np.ptp(columns.both.reshape(-1, widths[2]), axis=0) == 0
            return np.concatenate([user, np.zeros(widths[1], bool), both])
    return np.zeros(0, bool)


def _without_dropped(experts: Sequence[Expert], params: Fitted) -> Fitted:
    """Leaves out what only columns that the gate has dropped need."""
    kept, start, found = np.isfinite(params.ranking.scale), 0, []
    for expert, own in zip(experts, params.experts, strict=True):
        end = start + len(expert.columns)
        found.append(trimmed(expert, own, kept[start:end]))
        start = end
    return params._replace(experts=tuple(found))


def _state(experts: Sequence[Expert], base: _Base | Fitted, support: Examples) -> State:
    item, label, present = observed(support)
    taste = None if base.tastes is None else adapt_taste(base.tastes, item, label, present)
    summary = summarised(base.tables, support, item, label, present, base.scale)
    first = jnp.zeros(())
    if isinstance(base, Fitted):
        first = arrived(base.arrival, summary.moments, summary.count, summary.timed)
    pairs = zip(experts, base.experts, strict=True)
    states = tuple(expert.adapt(params, support) for expert, params in pairs)
    return State(states, taste, summary, first, (item, label, present))


def _expert_columns(
    experts: Sequence[Expert], base: _Base | Fitted, state: State, inputs: Inputs
) -> jax.Array:
    """Returns `[N, E]`, the personal rating last, 0 in an implicit log."""
    columns = [
        expert.scores(params, own, inputs)
        for expert, params, own in zip(experts, base.experts, state.experts, strict=True)
    ]
    return jnp.concatenate([*columns, _personal(base, state, inputs.item)[:, None]], axis=1)


def _personal(base: _Base | Fitted, state: State, item: jax.Array) -> jax.Array:
    """Returns `[N]` personal ratings, 0 in an implicit log."""
    if base.tastes is None:
        return jnp.zeros(item.shape)
    return predicted(*_models(base, state), item)[0][:, 0]


def _rating_columns(
    experts: Sequence[Expert], base: _Base | Fitted, state: State, inputs: Inputs
) -> Columns:
    columns = columns_of(base.tables, *_models(base, state), state.summary, state.seen, inputs.item)
    further = [
        expert.rates(params, own, inputs)[:, None]
        for expert, params, own in zip(experts, base.experts, state.experts, strict=True)
        if expert.rates is not None
    ]
    return columns._replace(experts=jnp.concatenate([columns.experts, *further], axis=1))


def _models(base: _Base | Fitted, state: State) -> tuple[Tastes, Taste]:
    """Returns the Gaussian models and the user's latents, where there are ratings."""
    assert base.tastes is not None
    assert state.taste is not None
    return base.tastes, state.taste


def _adapt(
    experts: Experts, params: Fitted, support: Examples, key: jax.Array | None = None
) -> State:
    del key
    return _state(experts, params, support)


def _rank(experts: Experts, params: Fitted, adapted: State, inputs: Inputs) -> jax.Array:
    weights = expert_weights(params.ranking, adapted.summary.count, adapted.first)
    return _expert_columns(experts, params, adapted, inputs) @ weights


def _parts(experts: Experts, params: Fitted, adapted: State, inputs: Inputs) -> jax.Array:
    """Returns `[N, E]` summands of `_rank`."""
    weights = expert_weights(params.ranking, adapted.summary.count, adapted.first)
    return _expert_columns(experts, params, adapted, inputs) * weights


def _predict_both(experts: Experts) -> Any:
    def predict(params: Fitted, adapted: State, inputs: Inputs) -> jax.Array:
        """Predicts ratings; without ratings in the log, the scores of `rank`."""
        if params.tastes is None:
            return _rank(experts, params, adapted, inputs)
        if params.rating is None:  # Nobody could be held out.
            return jnp.mean(predicted(*_models(params, adapted), inputs.item)[0], axis=1)
        columns = _rating_columns(experts, params, adapted, inputs)
        return head_scores(params.rating, columns, adapted.summary.count, adapted.first)

    return predict


def _predict_variance(params: Fitted, adapted: State, inputs: Inputs) -> jax.Array:
    if params.tastes is None or adapted.taste is None:
        # There are no ratings; a label between 0 and 1 varies by no more.
        return jnp.full(inputs.item.shape, 0.25)
    spread = predicted(params.tastes, adapted.taste, inputs.item)[1][:, 1]
    factor = 1.0
    if params.rating is not None:
        factor = blended(params.rating.variance, adapted.summary.count, adapted.first)
    return factor * (spread + adapted.taste.noise)


def _expectation_of(experts: Experts) -> Any:
    predict = _predict_both(experts)

    def expectation(params: Fitted, adapted: State, inputs: Inputs) -> Expectation:
        """Returns the mixture's posterior around the corrected rating.

        The variance is that of `_predict_variance`, factor included, without the noise.
        """
        if params.tastes is None or adapted.taste is None:
            raise ValueError("method hybrid was fitted without ratings and expects none.")
        factor = jnp.ones(())
        if params.rating is not None:
            factor = blended(params.rating.variance, adapted.summary.count, adapted.first)
        root = params.tastes.design[inputs.item] @ covariance_root(adapted.taste.covariances[1])
        own = factor * params.tastes.doubt[inputs.item]
        return Expectation(predict(params, adapted, inputs), jnp.sqrt(factor) * root, own)

    return expectation


baselines: tuple[Baseline, ...] = (hybrid(),)
