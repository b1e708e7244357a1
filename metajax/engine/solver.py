"""A cold-start recommender as one object: train on a log, recommend, save, load.

A thin facade over `engine.fit`, `engine.save` and `engine.load`, and over the functions of
`metajax.runs` that serve: what it holds are a model, the data it was trained on and a device.
"""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metajax import display, registry, runs
from metajax.baselines import Baseline, WeightTable
from metajax.data import datasets
from metajax.data.dataset import Dataset
from metajax.distributed import device_of
from metajax.engine.export import export
from metajax.engine.extension import items_in_memory, with_events, with_items
from metajax.engine.fit import UnlinkedGraphError, chosen_method, fit, judged, read_linked
from metajax.engine.model import FittedModel, load, save
from metajax.engine.new_users import judged_on
from metajax.engine.refit import refit
from metajax.evaluation import Record
from metajax.fields import suggestion
from metajax.knowledge import KnowledgeGraph, graph_names
from metajax.methods import Settings
from metajax.runs import Recommendations
from metajax.runs.recommender import Ratings

__all__ = ["ColdStartSolver"]

# Columns of a log that is given as arrays.
_COLUMNS = ("user", "item", "rating", "time")


class _Source(NamedTuple):
    """The data of a training, by which it is judged."""

    dataset: Dataset
    graph: KnowledgeGraph | None
    settings: Settings | None
    trials: int | None


class ColdStartSolver:
    """Recommender for users of whom little is known.

    Items are named by titles or ids everywhere, ratings are in the unit of the log.

    Args:
        kg_path: A knowledge graph whose entities are items: Turtle, N-Triples or another form of
            RDF, TSV or CSV of head, relation and tail, RecBole `.kg`, or a name of
            `knowledge.graph_names()`. Its content vectors are appended to the items' attributes
            (`engine.fit`); methods that see no attributes of items, such as eb_fold_in, ignore it.
            None: there is none.
        meta_method: Name of a closed form or a trained method of one domain, such as maml; None:
            the default of `engine.fit`.
        device: The device that computes: `cpu`, `gpu`, `cuda:0`, `tpu`; None: JAX's own choice.
        seed: Seed of the held-out users, of initial parameters and of the sampler.
        link: A RecBole `.link` file, the entity of each item; None: items are linked by ids or
            titles (`knowledge.link_items`).
        require_links: True to refuse a graph that links to no item of the log; False to train
            without it.

    Raises:
        ValueError: If there is no such method, device or graph, the method needs two domains, or
            `seed` < 0.
        TypeError: If `device` is no text.

    Example:
        >>> solver = ColdStartSolver(meta_method="item_mean").train("synthetic")
        >>> [line.title for line in solver.recommend({}, top=1)]
        ['Item i203']
    """

    def __init__(
        self,
        kg_path: str | os.PathLike[str] | None = None,
        meta_method: str | None = None,
        device: str | None = None,
        seed: int = 0,
        *,
        link: str | os.PathLike[str] | None = None,
        require_links: bool = True,
    ):
        if meta_method is not None and registry.method_of(meta_method).two_domains:
            raise ValueError(
                f"meta_method must be a method of one domain, got {meta_method!r}, which needs a "
                "source and a target."
            )
        if kg_path is not None and not Path(kg_path).exists() and kg_path not in graph_names():
            raise ValueError(
                f"kg_path must be a path or one of the names {', '.join(graph_names())}, got "
                f"{str(kg_path)!r}{suggestion(kg_path, graph_names())}"
            )
        if link is not None and kg_path is None:
            raise ValueError(f"link must come with kg_path, the graph, got {str(link)!r} alone.")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be a whole number >= 0, got {seed!r}.")
        self.kg_path, self.meta_method, self.seed = kg_path, meta_method, seed
        self.link, self.require_links = link, require_links
        self._device = None if device is None else device_of(device)
        self._model: FittedModel | None = None
        self._source: _Source | None = None

    @property
    def model(self) -> FittedModel:
        """The fitted model.

        Raises:
            ValueError: If nothing has been trained or loaded.
        """
        if self._model is None:
            raise ValueError("there is no model yet: train one, or ColdStartSolver.load a folder.")
        return self._model

    def train(
        self,
        data: Any,
        epochs: int | None = None,
        batch_size: int | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        trials: int | None = None,
        begin: Callable[[str], None] = lambda stage: None,
        on_row: Callable[[Any], None] = lambda row: None,
        **reading: Any,
    ) -> "ColdStartSolver":
        """Fits the method to all users of a log, as `engine.fit`.

        Args:
            data: A path, a name of `data.names()`, a `Dataset`, a frame of polars or pandas, a
                mapping of columns, or two to four arrays: user, item, rating, time.
            epochs: Of a trained method, passes over the users, >= 1. Training counts updates, each
                on a batch of users: the most of them become `epochs` times the number of users over
                the users of a batch, rounded up. It ends earlier once held-out users stop gaining.
                None: the method's own most updates.
            batch_size: Of a trained method, users in the batch of one update, >= 1: its setting
                `tasks`. None: the method's own.
            options: Further settings of a trained method, as in `registry.settings_for`.
            trials: Of a closed form, the number of settings of its grid to try; None: all.
            begin: Called with the name of each stage when it begins.
            on_row: Called with each row of figures while a trained method is validated.
            **reading: Options of reading data that are not a `Dataset`, as in `data.load`, such as
                `user_column`.

        Returns:
            The solver.

        Raises:
            ValueError: If the data, a column or an option is not as it should be, a closed form is
                given `epochs`, `batch_size` or `options`, or a graph that is required links to no
                item.
            TypeError: If `data` is something else.
            DivergedError: If training diverged.
        """
        dataset = _dataset(data, reading)
        method = chosen_method(dataset, self.meta_method)
        given = {"epochs": epochs, "batch_size": batch_size, "options": options or None}
        given = {name: value for name, value in given.items() if value is not None}
        settings = None
        if isinstance(method, Baseline):
            if given:
                raise ValueError(
                    f"{' and '.join(given)} must be left out for {method.name!r}: it is a closed "
                    "form, which is not trained by updates."
                )
        else:
            if trials is not None:
                raise ValueError(f"trials must be left out for {method.name!r}, which has no grid.")
            users = len(dataset.interactions.users)
            changes = _changes(method.name, options or {}, epochs, batch_size, users)
            settings = registry.settings_for(method, **{"seed": self.seed, **changes})
        with self._computing():
            graph = self._graph(dataset)
            self._model = fit(
                dataset,
                method.name,
                settings=settings,
                trials=trials,
                seed=self.seed,
                graph=graph,
                begin=begin,
                on_row=on_row,
            )
        self._source = _Source(dataset, graph, settings, trials)
        return self

    def recommend(
        self,
        ratings: Ratings,
        user: Mapping[str, Any] | None = None,
        top: int = 10,
        explain: bool = False,
        *,
        exclude: Sequence[str | int] = (),
        only: Sequence[str | int] | None = None,
        category: Mapping[str, str | float] | None = None,
    ) -> Recommendations:
        """Recommends items to one user, who need not be in the log.

        Args:
            ratings: Title or id of an item to the user's rating of it; may be empty. Of a log
                without ratings a sequence of titles or ids, or their strengths.
            user: The user's attributes by name; those left out count as missing.
            top: Number of items, >= 1.
            explain: True to add `reasons`, the user's items that raised the score most, with the
                change of the score. They are counterfactuals: the method adapts once more without
                each rating. Exact for any method, but of one rating at a time. Of a method that
                blends experts also `experts`, their parts of the item's lead: the score that orders
                items, less its mean over all items that the user has not met. And `facts`, the
                attributes, and facts of the graph, that an item shares with liked ones.
            exclude: Titles or ids of items not to recommend.
            only: Titles or ids of the only items to recommend; None: all.
            category: Value by column of the items' attributes, such as `{"genres": "Comedy"}`.

        Returns:
            The best items that the user has not rated, best first.

        Raises:
            KeyError: If a title or an attribute is unknown; names the nearest.
            ValueError: As `runs.recommend` and `runs.candidates`.
        """
        recommender = self.model.recommender
        among = self._among(exclude, only, category)
        with self._computing():
            return runs.recommend(recommender, ratings, user, top=top, among=among, explain=explain)

    def recommend_batch(
        self,
        ratings: Sequence[Ratings],
        users: Sequence[Mapping[str, Any] | None] | None = None,
        top: int = 10,
        *,
        exclude: Sequence[str | int] = (),
        only: Sequence[str | int] | None = None,
        category: Mapping[str, str | float] | None = None,
    ) -> list[Recommendations]:
        """Recommends items to many users in one compiled call.

        Args:
            ratings: For each user the ratings, as in `recommend`.
            users: For each user the attributes, or None; None: for no user any.
            top: Number of items for each user, >= 1.
            exclude: As in `recommend`.
            only: As in `recommend`.
            category: As in `recommend`.

        Returns:
            For each user the list that `recommend` returns.

        Raises:
            KeyError: As `recommend`; names the user by position.
            ValueError: As `recommend`, or if `users` is not as long as `ratings`.
        """
        recommender = self.model.recommender
        among = self._among(exclude, only, category)
        with self._computing():
            return runs.recommend_batch(recommender, ratings, users, top=top, among=among)

    def predict(
        self,
        ratings: Ratings,
        items: Sequence[str | int],
        user: Mapping[str, Any] | None = None,
    ) -> np.ndarray:
        """Predicts one user's ratings of some items.

        Args:
            ratings: As in `recommend`.
            items: n titles or ids.
            user: As in `recommend`.

        Returns:
            `[n]` predicted ratings, in the unit of the log; of a method that only orders items its
            scores.

        Raises:
            KeyError: If a title or an attribute is unknown; names the nearest.
            TypeError: If `items` is one text.
            ValueError: As `runs.predict`.
        """
        recommender = self.model.recommender
        with self._computing():
            return runs.predict(recommender, ratings, items, user)

    def similar(self, item: str | int, top: int = 10) -> Recommendations:
        """Ranks items by how much liking one of them raises their scores: `runs.similar`.

        Args:
            item: A title or an id.
            top: Number of items, >= 1.

        Returns:
            The most similar items first; `score` is the difference that the best rating of `item`,
            in place of the worst, makes to the item's score.

        Raises:
            KeyError: If no item has the title; names the nearest.
            ValueError: If a title means several items, `top` < 1, or the method is not
                personalised.
        """
        recommender = self.model.recommender
        with self._computing():
            return runs.similar(recommender, item, top=top)

    def weights(self) -> WeightTable:
        """Tells which experts order the items.

        Returns:
            By kind of support ("any" for any of a user's interactions, "first" for the first ones),
            by expert, by number of interactions: the expert's weight. It is the change of the score
            that orders the list when the expert's own score rises by one standard deviation, as a
            share of such changes of all experts, whose sizes sum to 1; a negative one lowers the
            score. Empty of a method that blends no experts.

        Raises:
            ValueError: If nothing has been trained or loaded.
        """
        return self.model.weights

    def evaluate(
        self,
        data: Any = None,
        *,
        fold: int = 0,
        baselines: Sequence[str] = ("item_mean", "popularity"),
        begin: Callable[[str], None] = lambda stage: None,
        **reading: Any,
    ) -> list[Record]:
        """Judges the method on held-out users, or the model on users that are new to it.

        The model itself has seen all users of its log and cannot be judged on them. So without
        `data` the method is tuned and fitted once more, to the other users of a fold, and that fit
        is judged beside baselines by protocol P1: `engine.judged`. It takes about as long as
        `train`. With `data` the model is judged as it is: `engine.judged_on`.

        Args:
            data: A log with users who are not in that of the training, such as a later one, as in
                `train`; None: users held out of the training's log.
            fold: Fold whose users are held out, 0 to 4.
            baselines: Names of closed forms to judge beside it; those that the data do not suit
                are left out.
            begin: Called with the name of each method when its turn comes.
            **reading: Options of reading `data`, as in `train`.

        Returns:
            Figures with intervals, by method, order of the support, number of interactions and
            metric: data of a report, as for `evaluation.to_polars`.

        Raises:
            ValueError: If there are no data because the model was loaded, there is no such
                baseline, the data have too few users, or as `engine.judged_on`.
            DivergedError: If training diverged.
        """
        model = self.model
        if data is not None:
            newer = _dataset(data, reading)
            with self._computing():
                return judged_on(model, newer, seed=self.seed).records
        if self._source is None:
            raise ValueError(
                "a model that was loaded comes without the data to judge it on: give a log of "
                "users who are new to it."
            )
        dataset, graph, settings, trials = self._source
        suited = [
            name
            for name in baselines
            if name != model.method
            and not (dataset.implicit and registry.method_of(name).needs_ratings)
        ]
        with self._computing():
            return judged(
                dataset,
                model.method,
                baselines=suited,
                settings=settings,
                trials=trials,
                fold=fold,
                seed=self.seed,
                graph=graph,
                begin=begin,
            )

    def update(self, events: Any, **reading: Any) -> "ColdStartSolver":
        """Adds later interactions to the log, and refits the model to all of it: `engine.refit`.

        The setting that `train` has chosen stays, and a trained method goes on from its parameters.
        Users and items that are new are known afterwards. A new user needs no update to get
        recommendations: `recommend` adapts to any.

        Args:
            events: A log of the columns of the training's, as in `train`. Of a pair of user and
                item that is known its interaction takes the place of the old one.
            **reading: Options of reading it, as in `train`.

        Returns:
            The solver.

        Raises:
            ValueError: If the model was loaded, so that there is no log to extend; or as
                `engine.with_events`.
            DivergedError: If training diverged.
        """
        return self._refitted(with_events(self._extended, _dataset(events, reading)))

    def add_items(self, table: Any) -> "ColdStartSolver":
        """Adds items without interactions, and refits the model: `engine.refit`.

        Their scores come from what the method makes of attributes, or of an item without
        interactions. A graph is read again, and may describe them.

        Args:
            table: A frame or a mapping of columns: `item`, `item_id` or `id`, and attributes named
                as those of the training's items; those left out are missing.

        Returns:
            The solver.

        Raises:
            TypeError: If `table` is something else.
            ValueError: If the model was loaded, or an item or a column is not as it should be.
            DivergedError: If training diverged.
        """
        return self._refitted(with_items(self._extended, items_in_memory(table)))

    @property
    def _extended(self) -> Dataset:
        """The data to extend."""
        _ = self.model
        if self._source is None:
            raise ValueError(
                "a model that was loaded comes without its log, which cannot be extended: train it "
                "on all of the data."
            )
        return self._source.dataset

    def _refitted(self, dataset: Dataset) -> "ColdStartSolver":
        assert self._source is not None
        with self._computing():
            graph = self._graph(dataset)
            self._model = refit(self.model, dataset, graph=graph)
        self._source = self._source._replace(dataset=dataset, graph=graph)
        return self

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes the model to a folder that needs no data to serve: `engine.save`.

        Args:
            folder: A folder that does not exist yet.

        Returns:
            The folder.

        Raises:
            ValueError: If nothing has been trained or loaded.
            OSError: If the folder exists or cannot be written.
        """
        return save(self.model, folder)

    def export(self, path: str | os.PathLike[str], *, support: int = 16) -> None:
        """Writes the model as a StableHLO program for other runtimes: `engine.export`.

        Args:
            path: The file; one that exists is replaced.
            support: Most interactions of a user, >= 1.

        Raises:
            ValueError: If nothing has been trained or loaded, or `support` < 1.
            OSError: If the file cannot be written.
        """
        with self._computing():
            export(self.model, path, support=support)

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, device: str | None = None
    ) -> "ColdStartSolver":
        """Reads a model from a folder of `save`, or of `metajax fit`.

        Args:
            folder: The folder.
            device: As in `ColdStartSolver`.

        Returns:
            A solver that recommends; to judge or to train it needs data.

        Raises:
            ValueError: If no model is there, a file of it is missing or damaged, or there is no
                such device.
        """
        solver = cls(device=device)
        with solver._computing():
            solver._model = load(folder)
        solver.meta_method = solver._model.method
        return solver

    def _repr_html_(self) -> str:
        if self._model is None:
            method = self.meta_method or "the method that suits the data"
            return display.facts("Solver without a model", {"method": method})
        return self._model._repr_html_()

    def _computing(self) -> AbstractContextManager[Any]:
        """Makes new arrays on the solver's device, and with them every computation."""
        if self._device is None:
            return contextlib.nullcontext()
        return jax.default_device(self._device)

    def _among(
        self,
        exclude: Sequence[str | int],
        only: Sequence[str | int] | None,
        category: Mapping[str, str | float] | None,
    ) -> np.ndarray:
        catalogue = self.model.recommender.catalogue
        return runs.candidates(catalogue, exclude=exclude, only=only, category=category)

    def _graph(self, dataset: Dataset) -> KnowledgeGraph | None:
        if self.kg_path is None:
            return None
        try:
            return read_linked(self.kg_path, dataset, link=self.link)
        except UnlinkedGraphError as problem:
            if not self.require_links:
                return None
            raise UnlinkedGraphError(f"{problem} Or require_links=False.") from None


def _dataset(data: Any, reading: Mapping[str, Any]) -> Dataset:
    if isinstance(data, Dataset):
        if reading:
            raise ValueError(
                f"a data set has been read; options are for paths, got {', '.join(reading)}."
            )
        return data
    if isinstance(data, tuple | list):
        if not 2 <= len(data) <= len(_COLUMNS):
            raise ValueError(
                f"arrays must be user, item and perhaps rating and time, got {len(data)} of them."
            )
        data = dict(zip(_COLUMNS, data, strict=False))
    if isinstance(data, os.PathLike):
        data = Path(data)
    return datasets.load(data, **reading)


def _changes(
    method: str,
    options: Mapping[str, Any],
    epochs: int | None,
    batch_size: int | None,
    users: int,
) -> dict[str, Any]:
    """Translates epochs and the size of a batch to settings of a training."""
    changes = dict(options)
    for name, value, setting in (
        ("epochs", epochs, "updates"),
        ("batch_size", batch_size, "tasks"),
    ):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number >= 1, got {value!r}.")
        if setting in options:
            raise ValueError(f"{name} and the option {setting} exclude each other.")
        changes[setting] = value
    if epochs is not None:
        tasks = changes.get("tasks", registry.settings_for(method).tasks)
        changes["updates"] = epochs * -(-users // tasks)
    return changes
