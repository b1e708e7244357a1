"""Lists for users from a model folder: adaptation, items that are new to the model, and a policy.

Users who wait are adapted in one call, with supports and numbers of users padded to few sizes, so
that nothing is compiled once `Scorer` has warmed up. A list is drawn as 10 or as 100 positions and
cut: a policy draws position by position, so that the propensities of the first ones stay.

**New items.** An item that the model does not know has no parameters, whatever the method. Its
score for a user is that of a ridge regression of the user's scores of the known items on their
content features, X b with b = (X'X + L)^-1 X's: as good as the features explain that user's scores,
and refitted to each of them at the cost of one product. The penalty has the least leave-one-out
error on the scores of somebody of whom nothing is known. The variance of such a score is the mean
variance of the known ones, plus that of what the features leave unexplained. An item that the model
knows and whose content a client has changed keeps its own score, plus the difference that the same
regression makes between the new content and the old.

**Policies.** `greedy`, `epsilon_greedy` (epsilon .1) and `softmax` (temperature .25 of the standard
deviation of the user's scores) see the scores that order items; `ucb` (width 1) and `thompson` (200
draws) predicted ratings and the variances of the expected ratings, without the noise of a single
one (`Adaptation.expectation`); of a method that has variances of ratings alone they see those, and
explore more.
"""

import contextlib
import functools
import hashlib
import heapq
import os
import time
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import engine
from metajax.data.schema import Schema, encode_rows
from metajax.exploration import Beliefs, policy_of
from metajax.fields import suggestion
from metajax.runs.candidates import candidates
from metajax.runs.explanation import REASONS
from metajax.runs.facts import CommonFact, common_facts
from metajax.runs.item_index import index_of_items
from metajax.runs.recommendation import similar
from metajax.runs.recommender import Recommender, Seen, liked_rating, seen_of
from metajax.runs.scores import ROUNDING, Ranked, Scored, ranked_items, score_all
from metajax.serving.state import FIRST, PLACE, KeptLists
from metajax.serving.store import Item

__all__ = [
    "Line",
    "ListRequest",
    "RefusedError",
    "Scorer",
    "UnknownError",
    "scorer_of",
]

POLICIES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "greedy": {},
        "epsilon_greedy": {"epsilon": 0.1},
        "softmax": {"temperature": 0.25},
        "ucb": {"width": 1.0},
        "thompson": {"draws": 200},
    }
)
"""Policies that are served, and their settings."""

LENGTHS = (10, 100)
"""Numbers of positions that are drawn."""

AT_ONCE = 4
"""Users of one call, at most: on two cores a large batch takes as long as its users one by one, and
each of them would wait for all."""

_FEW = 8
"""Rows of a small support. Of the engine on MovieLens-100K adapting to rows of this number took .9
ms, and to 64, most of them padding, 5 to 10 ms."""

_OF_VARIANCE = ("ucb", "thompson")
_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
_NEW, _TITLE = 64, 1000


class RefusedError(ValueError):
    """A request for a list that cannot be fulfilled, in one line."""


class UnknownError(RefusedError):
    """An id of which nothing is known."""


class ListRequest(NamedTuple):
    """A list that is asked for."""

    labels: Mapping[str, float]
    """Label by item, as of `labels_of`; the newest first."""
    met: Collection[str] = ()
    """Items that the user has met, which are not shown again."""
    attributes: Mapping[str, Any] = {}
    """Attributes of the user by name."""
    n: int = 10
    """Number of positions, from 1 to 100."""
    policy: str = "greedy"
    """Name of a policy."""
    exclude: Collection[str] = ()
    """Items that are not shown."""
    having: Sequence[tuple[str, str]] = ()
    """Columns and values that all items shown must have; the column `category` is of categories."""
    explain: bool = False
    """True to add reasons and facts."""
    seed: int = 0
    """Of the draw."""
    others: Mapping[str, str] = {}
    """Policies by a name, of which it is asked how likely they show the first item first."""


class Line(NamedTuple):
    """A position of a list."""

    item: str
    """Id of the item."""
    title: str
    """Its title; the id of one that is new to the model and has none."""
    score: float
    """Predicted rating, in the unit of the log; of a method that only orders items its score."""
    standard_error: float | None
    """Standard deviation of that rating; None of a method without."""
    propensity: float
    """Probability of the item at this position, after all filters."""
    reasons: tuple[tuple[str, float], ...] = ()
    """Ids of the user's items that raised the score most, and by how much."""
    facts: tuple[CommonFact, ...] = ()
    """Facts that it shares with items that the user likes."""
    chances: Mapping[str, float] = {}
    """Of the first position: probability with which each of the other policies shows it there."""


class _Items(NamedTuple):
    """All items: N of the model, then C places for new ones."""

    given: Mapping[str, Item]
    """What clients have told, by id."""
    new: tuple[str, ...]
    """Ids of the new ones in use."""
    place: Mapping[str, int]
    """Index by id."""
    content: np.ndarray
    """`[C, F]` content features of the new ones, with an intercept."""
    available: np.ndarray
    """`[N + C]` bool."""
    expires: np.ndarray
    """`[N + C]` seconds since 1970."""
    changed: np.ndarray
    """`[M]` indices of items of the model whose content was changed."""
    change: np.ndarray
    """`[M, F]` by how much their content features differ from those of the model."""
    told: bytes
    """Hash of what scores depend on: the content of the new and the changed ones."""


class _Drawn(NamedTuple):
    """Items of a list, in standardised units."""

    places: list[int]
    """Indices."""
    scores: np.ndarray
    """`[n]`."""
    deviations: np.ndarray
    """`[n]`."""
    chances: list[float]
    """Propensities."""
    of_others: dict[str, float]
    """As in `Line.chances`."""


class Scorer:
    """A model that is served.

    Args:
        model: The fitted model.
        version: Its version, which the answers name.
        rows: Number of rows that a support has at most; the newest count.
        policies: Names of those that are compiled and served; None: all that the model can.
        compared: Names of those whose chances are asked for, in experiments.
        kept_bytes: Bytes of first items of earlier users that are kept, at most.

    Raises:
        ValueError: If there is no such policy, or the model lacks what it needs.
    """

    def __init__(
        self,
        model: engine.FittedModel,
        version: str,
        *,
        rows: int = 64,
        policies: Sequence[str] | None = None,
        compared: Sequence[str] = (),
        kept_bytes: int = 2**26,
    ):
        found = model.recommender
        catalogue = found.catalogue
        self.version, self.rows, self.method = version, rows, model.method
        self.ids = catalogue.ids.tolist()
        self._schema = model.item_schema
        self._of_schema = sum(field.width for field in model.item_schema.fields)
        # What lies beyond are vectors of a graph, which a new item does not have.
        known = np.asarray(catalogue.item_features, np.float64)[:, : self._of_schema]
        # On the device once, and not at every call.
        features: Any = jnp.asarray(catalogue.item_features)
        self.recommender: Recommender = found._replace(
            params=jax.tree.map(
                lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf,
                found.params,
            ),
            catalogue=catalogue._replace(item_features=features),
        )
        self._rated = found.rating and found.scale is not None
        self.has_variance = self._rated and found.adaptation.predict_variance is not None
        able = [name for name in POLICIES if self.has_variance or name not in _OF_VARIANCE]
        self.policies = tuple(able)
        self.policies = tuple(able if policies is None else map(self.checked_policy, policies))
        self._compared = tuple(dict.fromkeys(map(self.checked_policy, compared)))
        self._centre, self._spread = known.mean(axis=0), known.std(axis=0)
        self._spread[self._spread == 0] = 1
        self._known = self._standard(known)
        self._of_model = {name: n for n, name in enumerate(self.ids)}
        self._any = np.ones(len(self.ids), bool)
        self._items = self._with({}, (), np.zeros((_NEW, self._of_schema + 1)))
        self._sizes = (_FEW, rows) if rows > _FEW else (rows,)
        self.kept = KeptLists(kept_bytes)
        stranger = self._of_known([self._seen(ListRequest({}))])
        self._regression = _regression(self._known, np.asarray(stranger.ranks[0]))
        titles = catalogue.titles.tolist()
        named = zip(titles, self.ids, strict=True)
        self._searched = [(_folded(title), title, name) for title, name in named]

        @functools.lru_cache(maxsize=256)
        def of_attribute(column: str, value: str) -> np.ndarray:
            return candidates(catalogue, category={column: value})

        self._of_attribute = of_attribute

    def warm_up(self) -> None:
        """Compiles everything that requests will call."""
        for size in (1 << n for n in range(AT_ONCE.bit_length())):
            for rows in self._sizes:
                seen = [self._seen(ListRequest(self._labels(rows)))] * size
                self._best_known(seen)
                self._of_known(seen)
        for policy in self.policies:
            for n in LENGTHS:
                self.lists([ListRequest({}, n=n, policy=policy)])
        for policy in self._compared:
            other = next((one for one in self.policies if one != policy), policy)
            self.lists([ListRequest({}, policy=other, others={"": policy})])
        with contextlib.suppress(RefusedError):
            self.similar(self.ids[0], 1)

    def _labels(self, rows: int) -> dict[str, float]:
        """Labels of so many items, fewer of a smaller catalogue, by which programs are compiled."""
        liked = liked_rating(self.recommender)
        return dict.fromkeys(self.ids[:rows], 1.0 if liked is None else liked)

    def checked_policy(self, name: str) -> str:
        """Returns the name of a policy that is served.

        Raises:
            RefusedError: If it is none; names the nearest.
        """
        if name in self.policies:
            return name
        if name in _OF_VARIANCE and not self.has_variance:
            raise RefusedError(f"policy {name} needs variances, which {self.method} does not have.")
        known = suggestion(name, self.policies, listed=True)
        raise RefusedError(f"there is no policy {name[:100]!r}{known}")

    def check_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Checks attributes of a user.

        Raises:
            RefusedError: If a name is unknown, or a value does not fit.
        """
        _encoded(self.recommender.user_schema, attributes)

    def on_scale(self, rating: float) -> bool:
        """True of a rating on the scale of the model; of a model without ratings always."""
        if self.recommender.scale is None:
            return True
        low, high = sorted(self.recommender.scale)
        return low <= rating <= high

    def knows(self, item: str) -> bool:
        """True of an item of the model, and of one that a client has put."""
        return item in self._items.place

    def is_of_model(self, item: str) -> bool:
        """True of an item of the model."""
        return item in self._of_model

    def set_items(self, given: Mapping[str, Item]) -> None:
        """Takes what clients have told of items, in place of what they told before.

        Raises:
            RefusedError: If content does not fit the attributes that the model was fitted with.
        """
        new = tuple(name for name in given if name not in self._of_model)
        size = max(_NEW, 1 << max(len(new) - 1, 0).bit_length())
        content = np.zeros((size, self._of_schema + 1))
        if new:
            rows = [self._encoded_content(given[name].content) for name in new]
            content[: len(new)] = self._standard(np.stack(rows))
        grown = size > len(self._items.content)
        self._items = self._with(given, new, content)
        if grown:
            self.warm_up()

    def check_content(self, content: Mapping[str, Any]) -> None:
        """Checks the attributes of an item.

        Raises:
            RefusedError: If a name is unknown, or a value does not fit.
        """
        self._encoded_content(content)

    def _encoded_content(self, content: Mapping[str, Any], place: int | None = None) -> np.ndarray:
        """Returns `[F - 1]` features; of an item of the model over the attributes that it has."""
        named = {field.name for field in self._schema.fields}
        title = content.get("title", "")
        if "title" not in named and not (isinstance(title, str) and len(title) <= _TITLE):
            raise RefusedError(f"title must be text of at most {_TITLE:,} characters.")
        # A title is shown and has no features.
        given = {name: value for name, value in content.items() if name in named or name != "title"}
        table = self.recommender.catalogue.attributes
        if place is not None and table is not None:
            known = {name: column[place] for name, column in table.columns.items() if name in named}
            given = {**known, **given}
        return _encoded(self._schema, given)

    def _with(self, given: Mapping[str, Item], new: tuple[str, ...], content: np.ndarray) -> _Items:
        place = {name: n for n, name in enumerate([*self.ids, *new])}
        size = len(self.ids) + len(content)
        available, expires = np.ones(size, bool), np.full(size, np.inf)
        available[len(place) :] = False
        for name, item in given.items():
            available[place[name]] = item.available
            if item.expires is not None:
                expires[place[name]] = item.expires
        told = {self._of_model[n]: i.content for n, i in given.items() if n in self._of_model}
        changed = [i for i, content in told.items() if set(content) - {"title"}]
        change = np.zeros((len(changed), self._of_schema + 1))
        if changed:
            rows = [self._encoded_content(told[i], i) for i in changed]
            change = self._standard(np.stack(rows)) - self._known[changed]
        places = np.array(changed, int)
        told = hashlib.blake2b(b"".join(part.tobytes() for part in (content, places, change)))
        return _Items(given, new, place, content, available, expires, places, change, told.digest())

    def lists(self, asked: Sequence[ListRequest]) -> list[list[Line] | RefusedError]:
        """Adapts to users in one call, and draws a list for each.

        Args:
            asked: At most `AT_ONCE` requests, whose policies are served.

        Returns:
            For each the list, or why there is none. It is shorter than `n` where no more items are
            left.
        """
        items = self._items
        found: dict[int, list[Line] | RefusedError] = {}
        checked: dict[int, Seen] = {}
        drawn: dict[int, _Drawn | None] = {}
        for n, one in enumerate(asked):
            with self._refusing(found, n):
                self.checked_policy(one.policy)
                checked[n] = self._seen(one)
        greedy = [n for n in checked if {asked[n].policy, *asked[n].others.values()} == {"greedy"}]
        if greedy:
            users = [checked[n] for n in greedy]
            firsts = self.kept.of(users, items.told, lambda new: self._firsts(new, items))
            for n, first in zip(greedy, firsts, strict=True):
                with self._refusing(found, n):
                    drawn[n] = self._of_first(asked[n], items, first)
        rest = [n for n in checked if n not in found and drawn.get(n) is None]
        if rest:
            scored = self._all_scores(self._of_known([checked[n] for n in rest]), items)
            for n, *own in zip(rest, *scored, strict=False):
                with self._refusing(found, n):
                    drawn[n] = self._of_all(asked[n], items, *own)
        for n, one in drawn.items():
            if one is not None:
                found[n] = self._lines(asked[n], checked[n], items, one)
        return [found[n] for n in range(len(asked))]

    @staticmethod
    @contextlib.contextmanager
    def _refusing(found: dict[int, Any], n: int) -> Iterator[None]:
        try:
            yield
        except RefusedError as problem:
            found[n] = problem

    def similar(self, item: str, n: int) -> list[tuple[str, str, float]]:
        """Ranks items by their similarity to one: id, title and similarity.

        Of an item of the model as `runs.similar`; of a new one by the cosine of content features.

        Raises:
            UnknownError: If nobody knows the item.
            RefusedError: If the method cannot compare.
        """
        items = self._items
        if item not in items.place:
            raise UnknownError("no item has this id.")
        shown = self._shown(items)
        known = len(self.ids)
        if items.place[item] < known:
            if not shown[:known].any():
                return []
            try:
                found = similar(self._by_id, item, top=n, among=shown[:known])
            except ValueError as problem:
                raise RefusedError(str(problem)) from None
            return [(line.item_id, line.title, line.score) for line in found]
        content = np.concatenate([self._known, items.content])[:, 1:]
        own = content[items.place[item]]
        norms = np.linalg.norm(content, axis=1) * np.linalg.norm(own)
        likeness = content @ own / np.where(norms > 0, norms, np.inf)
        shown[items.place[item]] = False
        order = np.argsort(-np.where(shown, likeness, -np.inf), kind="stable")[:n]
        named = [i for i in order.tolist() if shown[i]]
        return [(self._id(items, i), self._title(items, i), float(likeness[i])) for i in named]

    def search(self, text: str, n: int) -> list[tuple[str, str]]:
        """Finds items by words of their titles, whatever their case and accents.

        Args:
            text: Every word of it must be in the title.
            n: Number of items at most.

        Returns:
            Id and title of items that may be shown: first those that begin with the text, then
            those of whose words one begins with each, then shorter titles.
        """
        items = self._items
        words, whole = _folded(text).split(), _folded(text).strip()
        if not words:
            return []
        shown = self._shown(items)
        told = [self._title(items, items.place[name]) for name in items.given]
        given = [(_folded(t), t, n) for t, n in zip(told, items.given, strict=True)]
        found = [
            (
                not folded.startswith(whole),
                not all(f" {word}" in f" {folded}" for word in words),
                len(folded),
                folded,
                name,
                title,
            )
            for group, own in ((self._searched, True), (given, False))
            for folded, title, name in group
            if all(word in folded for word in words)
            and not (own and name in items.given)
            and shown[items.place[name]]
        ]
        return [(name, title) for *_, name, title in heapq.nsmallest(n, found)]

    @functools.cached_property
    def _by_id(self) -> Recommender:
        """The recommender whose items have no titles, so that an id is an id."""
        return self.recommender._replace(
            catalogue=self.recommender.catalogue._replace(index=index_of_items(self.ids, self.ids))
        )

    def _seen(self, request: ListRequest) -> Seen:
        place = self._items.place
        rows = [name for name in request.labels if place.get(name, len(self.ids)) < len(self.ids)]
        # The newest ones, and of those the oldest first.
        labels = {name: request.labels[name] for name in reversed(rows[: self.rows])}
        if request.attributes:
            self.check_attributes(request.attributes)
        ratings = list(labels) if self.recommender.scale is None else labels
        try:
            return seen_of(
                self.recommender, ratings, request.attributes, lambda name: place[str(name)]
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise RefusedError(str(problem.args[0])) from None

    def _of_known(self, seen: Sequence[Seen]) -> Scored:
        return score_all(self.recommender, seen, self._rows(seen), doubts=True)

    def _best_known(self, seen: Sequence[Seen]) -> Ranked:
        return ranked_items(self.recommender, seen, self._any, FIRST, least=self._rows(seen))

    def _rows(self, seen: Sequence[Seen]) -> int:
        """Returns to how many rows their supports are padded."""
        most = max(len(one.items) for one in seen)
        return next(size for size in self._sizes if most <= size)

    def _firsts(self, seen: Sequence[Seen], items: _Items) -> np.ndarray:
        """First items of B users, `[B, FIRST]` of `PLACE`; NaN where any score is not finite."""
        if not items.new and not len(items.changed):
            places, scores, variances, finite = map(np.asarray, self._best_known(seen)[:4])
            deviations = np.sqrt(variances)
        else:
            scores, deviations, ranks, _ = self._all_scores(self._of_known(seen), items)
            finite = np.isfinite((scores + ranks).sum(axis=1))
            ranks[:, len(items.place) :] = -np.inf
            places = np.argsort(-ranks, axis=1, kind="stable")[:, : min(FIRST, len(items.place))]
            scores, deviations = (
                np.take_along_axis(part, places, axis=1) for part in (scores, deviations)
            )
        found = np.zeros((len(seen), FIRST), PLACE)
        found["item"] = -1
        rows = found[:, : places.shape[1]]
        rows["item"], rows["deviation"] = places[: len(seen)], deviations[: len(seen)]
        rows["score"] = scores[: len(seen)]
        found["score"][~finite[: len(seen)]] = np.nan
        return found

    def _all_scores(
        self, scored: Scored, items: _Items
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Scores, deviations, ranks and doubts `[B, N + C]`, in standardised units."""
        scores, deviations, ranks, doubts = map(np.asarray, scored[:4])
        if not items.new and not len(items.changed):
            none = np.zeros((len(scores), len(items.content)), np.float32)
            scores, deviations, ranks, doubts = (
                np.concatenate([part, none], axis=1) for part in (scores, deviations, ranks, doubts)
            )
            return scores, deviations, ranks, doubts
        b = self._regression @ scores.T.astype(np.float64)  # [F, B]
        of_ranks = self._regression @ ranks.T.astype(np.float64)
        rest = np.mean((scores - (self._known @ b).T) ** 2, axis=1)

        def extended(spread: np.ndarray) -> np.ndarray:
            of_new = np.sqrt(np.mean(spread.astype(np.float64) ** 2, axis=1) + rest)
            added = np.repeat(of_new[:, None], len(items.content), axis=1)
            return np.concatenate([spread, added], axis=1)

        scores = np.concatenate([scores, (items.content @ b).T], axis=1)
        ranks = np.concatenate([ranks, (items.content @ of_ranks).T], axis=1)
        if len(items.changed):
            scores[:, items.changed] += (items.change @ b).T
            ranks[:, items.changed] += (items.change @ of_ranks).T
        return scores, extended(deviations), ranks, extended(doubts)

    def _shown(self, items: _Items) -> np.ndarray:
        """Returns a new `[N + C]` mask of the items that may be shown now."""
        return items.available & (items.expires > time.time())

    def _hidden(self, request: ListRequest, items: _Items) -> set[int]:
        """Items that this user is not shown."""
        names = (*request.met, *request.exclude, *request.labels)
        return {items.place[name] for name in names if name in items.place}

    def _of_first(self, request: ListRequest, items: _Items, first: np.ndarray) -> _Drawn | None:
        """Draws greedily from the first items `[FIRST]`; None if they may not suffice."""
        places = first["item"]
        _check_finite(first["score"])
        left = (places >= 0) & items.available[places] & (items.expires[places] > time.time())
        for column, value in request.having:
            left &= self._having(items, column, value)[places]
        hidden = self._hidden(request, items)
        at = [n for n in np.flatnonzero(left).tolist() if places[n] not in hidden][: request.n]
        if len(at) < request.n and len(items.place) > FIRST:
            return None
        shown = first[at]
        return _Drawn(
            shown["item"].tolist(),
            shown["score"],
            shown["deviation"],
            [1.0] * len(at),
            dict.fromkeys(request.others, 1.0),
        )

    def _of_all(
        self,
        request: ListRequest,
        items: _Items,
        scores: np.ndarray,
        deviations: np.ndarray,
        ranks: np.ndarray,
        doubts: np.ndarray,
    ) -> _Drawn:
        """Draws by any policy."""
        _check_finite(scores)
        _check_finite(ranks)
        mask = self._shown(items)
        mask[list(self._hidden(request, items))] = False
        for column, value in request.having:
            mask &= self._having(items, column, value)

        def beliefs(policy: str) -> tuple[np.ndarray, np.ndarray]:
            mean, variance = ranks, np.zeros_like(scores)
            if policy in _OF_VARIANCE:
                mean, variance = scores, doubts**2
            elif policy == "softmax" and mask.any():
                mean = ranks / max(float(ranks[mask].std()), 1e-6)
            return np.asarray(mean, np.float32), np.asarray(variance, np.float32)

        # Greedy lists that come here are long ones, or few: one program does.
        greedy = request.policy == "greedy"
        length = LENGTHS[-1] if greedy else next(k for k in LENGTHS if request.n <= k)
        seed = np.uint32(request.seed)
        slate = _drawn(request.policy, length, *beliefs(request.policy), mask, seed)
        drawn, chances, kept = (np.asarray(one)[: request.n] for one in slate)
        places, chances = drawn[kept].tolist(), chances[kept].tolist()
        of_others = {
            name: chances[0]
            if policy == request.policy
            else float(_chance(policy, *beliefs(policy), mask, places[0], seed))
            for name, policy in request.others.items()
            if places
        }
        return _Drawn(places, scores[places], deviations[places], chances, of_others)

    def _lines(self, request: ListRequest, seen: Seen, items: _Items, drawn: _Drawn) -> list[Line]:
        shown, errors = drawn.scores, [None] * len(drawn.places)
        if self._rated:
            around = drawn.deviations
            shown, above, below = self.recommender.labels.outside(
                np.stack([shown, shown + around, shown - around])
            )
            if self.has_variance:
                errors = (np.abs(above - below) / 2).tolist()
        lines = [
            Line(self._id(items, i), self._title(items, i), float(score), error, chance)
            for i, score, error, chance in zip(
                drawn.places, shown, errors, drawn.chances, strict=True
            )
        ]
        if lines and drawn.of_others:
            lines[0] = lines[0]._replace(chances=drawn.of_others)
        return self._explained(seen, items, drawn.places, lines) if request.explain else lines

    def _explained(
        self, seen: Seen, items: _Items, places: Sequence[int], lines: Sequence[Line]
    ) -> list[Line]:
        """Adds reasons, as `runs.recommend` does, and common facts."""
        if not len(seen.items) or not lines:
            return list(lines)
        without = [
            seen._replace(items=np.delete(seen.items, n), labels=np.delete(seen.labels, n))
            for n in range(len(seen.items))
        ]
        changes = []
        for start in range(0, len(without), AT_ONCE - 1):
            # In one program with the whole: between two programs the last bits differ.
            users = [seen, *without[start : start + AT_ONCE - 1]]
            scores = self._all_scores(self._of_known(users), items)[0][:, places]
            noise = ROUNDING * np.maximum(1, np.abs(scores[0]))
            change = scores[0] - scores[1 : len(users)]
            changes.append(np.where(np.abs(change) > noise, change, 0.0))
        raised = np.concatenate(changes)  # [n, K]
        unit = self.recommender.labels.unit if self._rated else 1.0
        known, catalogue = len(self.ids), self.recommender.catalogue
        liked = seen.items.tolist()
        if self.recommender.scale is not None:
            liked = seen.items[seen.labels > 3].tolist()
        facts = iter(
            common_facts(
                [i for i in places if i < known],
                liked,
                catalogue.titles,
                catalogue.attributes,
                catalogue.facts,
            )
        )
        explained = []
        for line, place, gains in zip(lines, places, raised.T, strict=True):
            order = np.argsort(-gains, kind="stable")[:REASONS]
            reasons = tuple(
                (self.ids[seen.items[n]], float(gains[n] * unit)) for n in order if gains[n] > 0
            )
            own = next(facts) if place < known else ()
            explained.append(line._replace(reasons=reasons, facts=own))
        return explained

    def _having(self, items: _Items, column: str, value: str) -> np.ndarray:
        """Returns `[N + C]` bool, the items with a category, or with an attribute."""
        found = np.zeros(len(items.available), bool)
        known = len(self.ids)
        if column == "category":
            for name, item in items.given.items():
                found[items.place[name]] = value in item.categories
            return found
        problem: ValueError | None = None
        try:
            found[:known] = self._of_attribute(column, value)
        except ValueError as why:
            problem = why
        for name, item in items.given.items():
            place = items.place[name]
            if place < known and column not in item.content:
                continue
            content = item.content.get(column, "")
            tokens = content if isinstance(content, list) else str(content).split()
            found[place] = value in tokens or str(content) == value
        if problem is not None and not found.any():
            raise RefusedError(str(problem).removeprefix("category: "))
        return found

    def _id(self, items: _Items, place: int) -> str:
        known = len(self.ids)
        return self.ids[place] if place < known else items.new[place - known]

    def _title(self, items: _Items, place: int) -> str:
        name = self._id(items, place)
        own = str(self.recommender.catalogue.titles[place]) if place < len(self.ids) else name
        return str(items.given[name].content.get("title", own)) if name in items.given else own

    def title_of(self, item: str) -> str:
        """Title of an item; of an unknown one its id."""
        items = self._items
        return self._title(items, items.place[item]) if item in items.place else item

    def _standard(self, features: np.ndarray) -> np.ndarray:
        """Returns `[n, F]` standardised content features after an intercept."""
        rows = (features - self._centre) / self._spread
        return np.concatenate([np.ones((len(rows), 1)), rows], axis=1)


def _check_finite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise RefusedError("the model predicts NaN: these ratings drove it out of range.")


def scorer_of(folder: str | os.PathLike[str], **settings: Any) -> Scorer:
    """Reads a model folder, and compiles what serving it needs.

    Args:
        folder: Folder that `engine.save` wrote.
        **settings: Of `Scorer`.

    Raises:
        ValueError: As `engine.load` and `Scorer`.
    """
    model = engine.load(folder)
    digest = hashlib.sha256((Path(folder) / "manifest.json").read_bytes()).hexdigest()
    scorer = Scorer(model, f"{model.method}-{digest[:12]}", **settings)
    scorer.warm_up()
    return scorer


def _folded(text: str) -> str:
    """Returns text without accents and case."""
    parts = unicodedata.normalize("NFKD", text)
    return "".join(part for part in parts if not unicodedata.combining(part)).casefold()


def _encoded(schema: Schema, attributes: Mapping[str, Any]) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):
            found = encode_rows(schema, [attributes])[0]
    except (KeyError, OverflowError, TypeError, ValueError) as problem:
        raise RefusedError(str(problem.args[0])) from None
    if not np.isfinite(found).all():
        raise RefusedError("a number of the attributes is too large.")
    return found


def _regression(x: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns `[F, N]`, which makes of N scores the coefficients of their ridge regression.

    Args:
        x: `[N, F]`: an intercept, which is not penalised, and centred features.
        scores: `[N]` by which the penalty is chosen.
    """
    u, d, v = np.linalg.svd(x[:, 1:], full_matrices=False)
    y = scores - scores.mean(dtype=np.float64)

    def error(penalty: float) -> float:
        """Mean squared leave-one-out error, in closed form."""
        share = d**2 / (d**2 + penalty)
        own = 1 / len(y) + u**2 @ share
        return float(np.mean(((y - u @ (share * (u.T @ y))) / np.maximum(1 - own, 1e-6)) ** 2))

    penalty = min(_PENALTIES, key=error)
    slopes = (v.T * (d / (d**2 + penalty))) @ u.T
    return np.concatenate([np.full((1, len(y)), 1 / len(y)), slopes])


# A NumPy or a JAX array: a call takes NumPy ones as they are, which saves .6 ms a list.
_Array = Any


@functools.partial(jax.jit, static_argnames=("name", "k"))
def _drawn(
    name: str, k: int, mean: _Array, variance: _Array, mask: _Array, seed: _Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Items, propensities and which positions are shown, `[k]`."""
    mean, variance, mask = map(jnp.asarray, (mean, variance, mask))
    slate = policy_of(name, k=k, **POLICIES[name]).show(
        Beliefs(mean, variance), mask, jax.random.key(seed)
    )
    return slate.items, slate.propensity, slate.shown


@functools.partial(jax.jit, static_argnames="name")
def _chance(
    name: str, mean: _Array, variance: _Array, mask: _Array, item: int, seed: _Array
) -> jax.Array:
    """Probability with which a policy shows an item at the first position."""
    mean, variance, mask = map(jnp.asarray, (mean, variance, mask))
    policy = policy_of(name, k=1, **POLICIES[name])
    shown = jnp.asarray([item], jnp.int32)
    return policy.propensities(Beliefs(mean, variance), mask, shown, jax.random.key(seed))[0, item]
