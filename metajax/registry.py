"""All methods by name, and the way from a method and its settings to a learner.

Methods are found: every module of `metajax.methods` and `metajax.cross_domain` may have a tuple
`methods`, and every module of `metajax.baselines`, `metajax.hybrid` and `metajax.cross_domain` a
tuple `baselines`.
Other packages add theirs through the entry point group `metajax.methods`, each entry a `Method` or
a `Baseline`.
"""

import dataclasses
import functools
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax import baselines, cross_domain, fields, hybrid, methods
from metajax.adaptation import matching, paths
from metajax.baselines import Baseline, Blend, WeightTable
from metajax.cross_domain.tasks import cross_lists, cross_tasks, shown_rows
from metajax.cross_domain.users import HISTORY
from metajax.data.dataset import Dataset, Shapes, TrainingSet, shapes_of
from metajax.data.memory import check_memory
from metajax.fields import check_keys, check_name, names_of, with_tuples
from metajax.learners import touched_rows
from metajax.methods import Method, Settings, objectives, to_dict
from metajax.methods.settings import Chosen, reading_fields
from metajax.methods.tasks import Sampler
from metajax.training import Progress, begin
from metajax.types import Adaptation, Examples, Inputs, MetaLearner, Params, Task

__all__ = [
    "adaptation_of",
    "all_baselines",
    "all_methods",
    "baseline_names",
    "blend_of",
    "changes_for",
    "check_domains",
    "check_options",
    "check_suits",
    "check_values",
    "closed_form_of",
    "closed_form_settings",
    "description_of",
    "first_progress",
    "from_json",
    "from_values",
    "judged_adaptation_of",
    "learner_of",
    "method_of",
    "names",
    "ordering",
    "params_like",
    "predicts_ratings",
    "progress_like",
    "reductions",
    "sampler_of",
    "settings_for",
    "settings_like",
    "settings_on",
    "to_json",
    "too_large",
    "trained_method_of",
    "weights_of",
    "with_changes",
    "with_setting",
]

_SHARED = set(names_of(Settings)) - {"method", "options"}

closed_form_settings = ("data", "fold", "seed", *reading_fields)
"""The settings that a closed form has; the others are those of training by updates."""


@functools.cache
def all_methods() -> tuple[Method, ...]:
    """Finds every trained method.

    Returns:
        Plain training first, then methods of one domain, then methods that need two; in the order
        of their names, and those of other packages last.

    Raises:
        ValueError: If two methods have the same name, or an option has the name of a shared
            setting.
    """
    own = [*_listed(methods, "methods"), *_listed(cross_domain, "methods")]
    own.sort(key=lambda method: (method.kind != "baseline", method.two_domains))
    found = (*own, *(entry for entry in _entries() if isinstance(entry, Method)))
    known = [method.name for method in found] + [baseline.name for baseline in all_baselines()]
    for name in known:
        if known.count(name) > 1:
            raise ValueError(f"methods must have names of their own, got {name!r} twice.")
    for method in found:
        check_options(method)
    return found


def check_options(method: Method) -> None:
    """Refuses options that have the name of a shared setting.

    Raises:
        ValueError: If one has.
    """
    for name in names_of(method.options):
        if name in _SHARED:
            raise ValueError(
                f"options of {method.name!r} must not have names of shared settings, got {name!r}."
            )


@functools.cache
def all_baselines() -> tuple[Baseline, ...]:
    """Finds every closed form.

    Returns:
        Those of one domain, ratings before rankings, then those that need two; in the order of
        their modules' names, and those of other packages last.
    """
    own = [
        found for room in (baselines, hybrid, cross_domain) for found in _listed(room, "baselines")
    ]
    own.sort(key=lambda found: (found.two_domains, found.predicts == "ranking"))
    return (*own, *(entry for entry in _entries() if isinstance(entry, Baseline)))


def _listed(package: ModuleType, name: str) -> list[Any]:
    """Collects the tuples of a name in the modules of a package."""
    return [found for module in _modules(package) for found in getattr(module, name, ())]


def _modules(package: ModuleType) -> list[ModuleType]:
    found = pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    return [importlib.import_module(module.name) for module in found]


def description_of(method: str) -> str:
    """Describes a method in a sentence: the first line of its module's docstring.

    Args:
        method: Its name.

    Returns:
        The sentence; empty of a method that the registry does not have.

    Example:
        >>> description_of("item_knn")
        'ItemKNN: item-based nearest neighbours by shrunk cosine, with fold-in of new users.'
    """
    return _descriptions().get(method, "")


@functools.cache
def _descriptions() -> dict[str, str]:
    own = [module for package in (methods, baselines, cross_domain) for module in _modules(package)]
    listed = [(module, getattr(module, n, ())) for module in own for n in ("methods", "baselines")]
    listed += [
        (importlib.import_module(point.module), [point.load()])
        for point in importlib.metadata.entry_points(group="metajax.methods")
    ]
    # A closed form of another part of the package is described by the module of its fit.
    listed += [
        (importlib.import_module(found.fit.__module__), [found])
        for found in all_baselines()
        if hasattr(found.fit, "__module__")
    ]
    lines: dict[str, str] = {}
    for module, found in listed:
        for method in found:
            lines.setdefault(method.name, (module.__doc__ or "").strip().partition("\n")[0])
    return lines


def _entries() -> list[Any]:
    """Loads the entry points of other packages.

    Raises:
        TypeError: If one is neither a `Method` nor a `Baseline`.
    """
    found = []
    for point in importlib.metadata.entry_points(group="metajax.methods"):
        loaded = point.load()
        if not isinstance(loaded, Method | Baseline):
            raise TypeError(
                f"entry point {point.value} of metajax.methods must be a Method or a Baseline, "
                f"got {type(loaded).__name__}."
            )
        found.append(loaded)
    return found


def names(domains: int | None = None) -> list[str]:
    """Lists the names of trained methods; with `domains=1` of those that need no second domain."""
    return [method.name for method in all_methods() if domains != 1 or not method.two_domains]


def baseline_names(domains: int | None = None) -> list[str]:
    """Lists the names of closed forms; with `domains=1` of those that need no second domain."""
    return [found.name for found in all_baselines() if domains != 1 or not found.two_domains]


def method_of(method: str | Method | Baseline) -> Method | Baseline:
    """Returns the trained method or closed form of a name; a value is returned as it is.

    Raises:
        ValueError: If there is none; names the nearest.
    """
    if isinstance(method, Method | Baseline):
        return method
    known = {found.name: found for found in (*all_baselines(), *all_methods())}
    check_name(method, known, "method")
    return known[method]


def trained_method_of(method: str | Method) -> Method:
    """Returns the trained method of a name; a value is returned as it is.

    Raises:
        ValueError: If there is none, or the name is a closed form's; names the nearest.
    """
    if isinstance(method, Method):
        return method
    known = {found.name: found for found in all_methods()}
    if method not in known and method in baseline_names():
        raise ValueError(
            f"method must be one that is trained by updates, got the closed form {method!r}."
        )
    check_name(method, known, "method")
    return known[method]


def weights_of(method: str, params: Params) -> WeightTable:
    """Tells which experts of a fitted method order the items.

    Args:
        method: Its name.
        params: Its parameters.

    Returns:
        `Blend.weights`; empty of a method that blends none.

    Raises:
        ValueError: If there is no such method.
    """
    blend = blend_of(method)
    return {} if blend is None else blend.weights(params)


def blend_of(method: str) -> Blend | None:
    """Returns the experts of a method; None of one that blends none.

    Raises:
        ValueError: If there is no such method.
    """
    found = method_of(method)
    return found.blend if isinstance(found, Baseline) else None


def closed_form_of(settings: Settings) -> Baseline | None:
    """Returns the closed form of settings; None where their method is trained by updates.

    Where the settings hold a chosen one, that is its grid.
    """
    found = {found.name: found for found in all_baselines()}.get(settings.method)
    if found is not None and isinstance(settings.options, Chosen):
        return found._replace(grid=(dict(settings.options.setting),))
    return found


def settings_for(method: str | Method | Baseline, **changes: Any) -> Settings:
    """Returns the settings of a method: its defaults, with some changed.

    Args:
        method: A name, or a method of one's own.
        **changes: Shared settings and options of the method to change; of a closed form, whose
            grid is tuned, those of `closed_form_settings`.

    Returns:
        The settings.

    Raises:
        ValueError: If there is no such method or setting, or a value is of the wrong type or out
            of range.

    Example:
        >>> settings = settings_for("maml_from_random", steps=3)
        >>> settings.method, settings.options.pretrained, settings.options.steps
        ('maml_from_random', False, 3)
    """
    method = method_of(method)
    if isinstance(method, Baseline):
        check_keys(changes, closed_form_settings, f"settings of the closed form {method.name}")
        return Settings(method=method.name, **changes)
    chosen = {**method.settings, **changes}
    check_keys(chosen, _keys_of(method.options), f"settings of {method.name}")
    own = {name: value for name, value in chosen.items() if name not in _SHARED}
    shared = {name: value for name, value in chosen.items() if name in _SHARED}
    return Settings(method=method.name, options=method.options(**own), **shared)


def with_changes(settings: Settings, **changes: Any) -> Settings:
    """Returns settings with some shared ones or options changed.

    Raises:
        ValueError: As `settings_for`.
    """
    check_keys(changes, _keys_of(settings.options), f"settings of {settings.method}")
    own = names_of(settings.options)
    options = {name: value for name, value in changes.items() if name in own}
    shared = {name: value for name, value in changes.items() if name not in own}
    return dataclasses.replace(
        settings, options=dataclasses.replace(settings.options, **options), **shared
    )


def settings_like(method: str | Method, settings: Settings) -> Settings:
    """Returns the settings of another method that is to train under the same conditions.

    Args:
        method: The other method.
        settings: Whose shared settings are taken over, and whose options where the other method
            has an option of the same name. What `method.settings` sets stays.

    Returns:
        The settings.
    """
    method = trained_method_of(method)
    known = {**vars(settings), **vars(settings.options)}
    taken = {name: value for name, value in known.items() if name in _keys_of(method.options)}
    return settings_for(method, **{**taken, **method.settings})


def settings_on(settings: Settings, dataset: Dataset, method: Method | None = None) -> Settings:
    """Returns the settings with an objective that the log allows.

    Args:
        settings: The settings.
        dataset: The data.
        method: The method, where it is none that has a name; by default that of the settings.

    Returns:
        The settings; without ratings in the log, `ordering` of its catalogue.

    Raises:
        ValueError: If the method needs ratings and the log has none.
    """
    closed_form = closed_form_of(settings) if method is None else None
    if closed_form is not None:
        check_suits(closed_form, dataset)
        return settings
    method = _resolved(settings, method)
    check_suits(method, dataset)
    if not dataset.implicit:
        return settings
    return ordering(settings, len(dataset.interactions.item_ids))


# To score a larger catalogue for every user of a meta-batch is what an update then waits for.
_WHOLE_CATALOGUE = 2000


def ordering(settings: Settings, items: int) -> Settings:
    """Replaces the objective `rating` by one of an order.

    Args:
        settings: The settings.
        items: Size of the catalogue.

    Returns:
        The settings with `ndcg`, or above 2,000 items `sampled_ranking`.
    """
    if not predicts_ratings(settings):
        return settings
    objective = "ndcg" if items <= _WHOLE_CATALOGUE else "sampled_ranking"
    return dataclasses.replace(settings, objective=objective)


def check_suits(method: Method | Baseline, dataset: Dataset) -> None:
    """Refuses a method that needs ratings where the log has none, or a smaller catalogue.

    Raises:
        ValueError: If it does.
    """
    problem = too_large(method, len(dataset.items.ids))
    if problem is not None:
        raise ValueError(f"{problem}: take another, such as graph_filter or hybrid.")
    if dataset.implicit and method.needs_ratings:
        raise ValueError(
            f"method {method.name!r} needs ratings, and {dataset.name} {dataset.unrated}: take "
            "one that orders the items, such as attentive_neighbours, item_knn or ease."
        )


def too_large(method: Method | Baseline, items: int) -> str | None:
    """Tells that a catalogue is too large for a method; None where it is not."""
    most = method.most_items
    if most is None or items <= most:
        return None
    return f"method {method.name!r} is for at most {most:,} items, got {items:,}"


def reductions(method: str, items: int) -> tuple[str, ...]:
    """Tells in sentences what a method leaves out for a catalogue of a size.

    Raises:
        ValueError: If there is no such method.
    """
    found = method_of(method)
    return found.reduced(items) if isinstance(found, Baseline) else ()


def changes_for(method: str | Method, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Selects from changes of many methods' settings those that concern one method.

    Args:
        method: The method.
        changes: Shared settings and options by name, and tables of options by a method's name. An
            option outside a table is for every method that has it.

    Returns:
        Changes for `settings_for`.

    Raises:
        ValueError: If a key is unknown to all methods; names the nearest.
    """
    method = trained_method_of(method)
    check_values(changes, "changes", method, options=True)
    known = _keys_of(method.options)
    everyone = {name: value for name, value in changes.items() if name in known}
    return {**everyone, **changes.get(method.name, {})}


def check_values(
    values: Mapping[str, Any], source: str, *more: Method, options: bool = False
) -> None:
    """Refuses an unknown setting, in the tables of all methods too, and names the nearest.

    Args:
        values: Shared settings by name, and tables of options by a method's name.
        source: Their origin, for the error.
        *more: Methods that `all_methods` does not find.
        options: True if an option may be outside a table.

    Raises:
        ValueError: If a key is unknown.
    """
    tables = {method.name: names_of(method.options) for method in (*all_methods(), *more)}
    outside = sorted({name for table in tables.values() for name in table})
    known = ["method", *sorted(_SHARED), *tables, *(outside if options else ())]
    for key, value in values.items():
        if key in outside and not options:
            having = [name for name, table in tables.items() if key in table]
            where = "maml" if "maml" in having else having[0]
            raise ValueError(
                f"{source}: {key!r} is an option of a method and belongs in its table, such as "
                f"{where}.{key}."
            )
        check_keys([key], known, source)
        if key in tables:
            if not isinstance(value, Mapping):
                raise ValueError(f"{source}: {key} must be a table of options, got {value!r}.")
            check_keys(value, tables[key], f"{source}, {key}")


def _keys_of(options: Any) -> list[str]:
    """Lists shared settings and options, by a dataclass of options or an instance."""
    return [*sorted(_SHARED), *names_of(options)]


def to_json(settings: Settings) -> str:
    """Writes settings as JSON: shared ones, and a table of options named by the method.

    Of a closed form those of `closed_form_settings`, and where it is there the chosen setting.
    """
    values = to_dict(settings)
    if closed_form_of(settings) is not None:
        names = ("method", *closed_form_settings, settings.method)
        values = {name: values[name] for name in names if name in values}
    return fields.to_json(values)


def from_json(path: Path) -> Settings:
    """Reads settings that `to_json` wrote.

    Raises:
        ValueError: If the file holds something else; names the file.
    """
    return fields.from_json(path, lambda **values: from_values(values), "the settings of a run")


def from_values(values: Mapping[str, Any]) -> Settings:
    """Returns settings of values that `to_json` wrote and JSON read.

    Raises:
        ValueError: If they are none.
    """
    values = with_tuples(values)
    if "method" not in values:
        raise ValueError("there is no method.")
    found = method_of(values.pop("method"))
    options = values.pop(found.name, {})
    if isinstance(found, Baseline):
        return with_setting(settings_for(found, **values), options)
    check_keys(options, names_of(found.options), found.name)
    check_keys(values, _SHARED, "settings")
    return settings_for(found, **values, **options)


def with_setting(settings: Settings, setting: Mapping[str, Any]) -> Settings:
    """Returns the settings of a closed form that is fitted with one setting in place of its grid.

    Args:
        settings: Those of the closed form.
        setting: Arguments of its fit; empty: its grid.
    """
    if not setting:
        return settings
    return dataclasses.replace(settings, options=Chosen(setting=tuple(setting.items())))


def learner_of(settings: Settings, shapes: Shapes, method: Method | None = None) -> MetaLearner:
    """Builds the learner of the settings.

    Args:
        settings: The settings.
        shapes: Of the training set.
        method: The method, where it is none that has a name; by default that of the settings.

    Returns:
        The learner; the same one for settings that differ in data, fold or seed alone, so that
        what was compiled for one serves the others.
    """
    return _learner(_resolved(settings, method), _compiled_part(settings), shapes)


def adaptation_of(settings: Settings, shapes: Shapes, method: Method | None = None) -> Adaptation:
    """Returns the adaptation of the method of the settings; arguments as in `learner_of`."""
    closed_form = closed_form_of(settings) if method is None else None
    if closed_form is not None:
        return closed_form.adaptation
    return learner_of(settings, shapes, method).adaptation


def judged_adaptation_of(
    settings: Settings, shapes: Shapes, method: Method | None = None
) -> Adaptation:
    """Returns the adaptation of the learner where any number of interactions is at hand.

    A method that was trained on few sees the first of them, in either domain: inner steps on a
    hundred times as many interactions are tuned by nothing. Where it orders the catalogue, a
    network with `Model.broadcasts_user` gets the user's attributes in one row.
    """
    adaptation = adaptation_of(settings, shapes, method)
    if method is None and closed_form_of(settings) is not None:
        return adaptation
    resolved = _resolved(settings, method)
    network = resolved.network(settings, shapes)
    if getattr(network, "broadcasts_user", False) and not predicts_ratings(settings):
        adaptation = _for_one_user(adaptation)
    if resolved.any_support:
        return adaptation
    rows = range(max(settings.support, 1))
    if shapes.domains == 2:
        rows = shown_rows(settings, HISTORY)
    return _few_shot(adaptation, tuple(rows))


def sampler_of(settings: Settings, shapes: Shapes, method: Method | None = None) -> Sampler:
    """Returns the sampler of training tasks of the settings; arguments as in `learner_of`."""
    return _sampler(_resolved(settings, method), _compiled_part(settings), shapes)


def predicts_ratings(settings: Settings) -> bool:
    """Returns whether scores are ratings; if not, they only order the items.

    Raises:
        ValueError: If the objective is unknown; names the nearest.
    """
    closed_form = closed_form_of(settings)
    if closed_form is not None:
        return closed_form.predicts_ratings
    check_name(settings.objective, objectives, "objective")
    return objectives[settings.objective].rating


def first_progress(
    settings: Settings, training: TrainingSet, method: Method | None = None
) -> Progress:
    """Initialises training: random parameters, and closed forms where the method has them.

    Args:
        settings: The settings.
        training: The training users alone, to which closed forms are fitted.
        method: As in `learner_of`.

    Returns:
        The progress before the first update.

    Raises:
        ValueError: As `check_domains`, or as its `initial`.
        OutOfMemoryError: If the parameters and the optimizer's moments would not fit.
    """
    method = _resolved(settings, method)
    # Before closed forms are fitted, whose errors are about training sets and not about methods.
    check_domains(method, settings, training)
    shapes = shapes_of(training)
    check_memory(
        method.name,
        lambda items: _memory(settings, shapes._replace(items=items), method),
        shapes.items,
        on_device=True,
    )
    return _begin(settings, training, method, method.initial(settings, training))


def check_domains(method: Method | Baseline, settings: Settings, training: TrainingSet) -> None:
    """Refuses a method that does not suit the number of domains.

    Raises:
        ValueError: If the method needs two domains and there is one, or there are two with ratings
            and scores are none.
    """
    domains = shapes_of(training).domains
    if method.two_domains and domains == 1:
        raise ValueError(
            f"method {method.name!r} needs two domains, a source and a target, got one."
        )
    if domains == 2 and training.scale is not None and not predicts_ratings(settings):
        got = settings.objective if isinstance(method, Method) else f"ranking of {method.name}"
        raise ValueError(
            "objective must be 'rating' where there are two domains with ratings, which are judged "
            f"by these alone, got {got!r}."
        )


def progress_like(
    settings: Settings, training: TrainingSet, method: Method | None = None
) -> Progress:
    """Returns shapes and types of the progress, for reading a checkpoint."""
    method = _resolved(settings, method)
    return jax.eval_shape(lambda: _begin(settings, training, method, lambda params: params))


def params_like(settings: Settings, shapes: Shapes, method: Method | None = None) -> Params:
    """Returns shapes and types of the meta-parameters, for reading them without training data.

    Args:
        settings: The settings.
        shapes: Of the training set.
        method: As in `learner_of`.
    """
    return _blank(settings, shapes, _resolved(settings, method)).best


def _memory(settings: Settings, shapes: Shapes, method: Method) -> float:
    """Returns the bytes of a training's state, before and after an update, and of a gradient."""
    blank = _blank(settings, shapes, method)
    sizes = (
        leaf.size * leaf.dtype.itemsize
        for leaf in jax.tree.leaves((blank, blank.state, blank.best))
    )
    return float(sum(sizes))


def _blank(settings: Settings, shapes: Shapes, method: Method) -> Progress:
    """Returns shapes and types of the progress before the first update."""
    learner = method.learner(settings, method.network(settings, shapes))

    def init() -> Progress:
        # Of tasks learners read the support's inputs alone, which are `Inputs` in every domain.
        rows = (1, max(settings.support, 1))
        inputs = Inputs(
            jnp.zeros((*rows, shapes.user_width)),
            jnp.zeros((*rows, shapes.item_width)),
            jnp.zeros(rows, jnp.int32),
        )
        examples = Examples(inputs, jnp.zeros(rows), jnp.ones(rows, bool))
        return begin(learner.init(jax.random.key(0), Task(examples, examples)))

    return jax.eval_shape(init)


def _resolved(settings: Settings, method: Method | None) -> Method:
    """Returns the method of settings.

    Raises:
        ValueError: If the settings are of another method, or name an unknown objective.
    """
    method = trained_method_of(settings.method) if method is None else method
    if method.name != settings.method or type(settings.options) is not method.options:
        raise ValueError(
            f"settings must be those of {method.name!r} with {method.options.__name__}, as from "
            f"settings_for, got those of {settings.method!r} with "
            f"{type(settings.options).__name__}."
        )
    check_name(settings.objective, objectives, "objective")
    return method


@functools.lru_cache(maxsize=64)
def _learner(method: Method, settings: Settings, shapes: Shapes) -> MetaLearner:
    def of_items(items: int) -> MetaLearner:
        return method.learner(settings, method.network(settings, shapes._replace(items=items)))

    if method.tables and shapes.items >= settings.lazy_from:
        return touched_rows(of_items, shapes.items, *method.tables)
    return of_items(shapes.items)


@functools.lru_cache(maxsize=64)
def _few_shot(adaptation: Adaptation, rows: tuple[int, ...]) -> Adaptation:
    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Any:
        there = np.array([row for row in rows if row < len(support.mask)])
        return adaptation.adapt(params, jax.tree.map(lambda leaf: leaf[there], support), key)

    return adaptation._replace(adapt=adapt)


@functools.lru_cache(maxsize=64)
def _for_one_user(adaptation: Adaptation) -> Adaptation:
    def predict(params: Params, adapted: Any, inputs: Inputs) -> jax.Array:
        # All rows have the attributes of the user whom it is adapted to.
        inputs = inputs._replace(user_features=inputs.user_features[:1])
        return adaptation.predict(params, adapted, inputs)

    return adaptation._replace(predict=predict)


@functools.lru_cache(maxsize=64)
def _sampler(method: Method, settings: Settings, shapes: Shapes) -> Sampler:
    if method.sampler is not None:
        return method.sampler(settings, shapes)
    options = {"members": True} if method.members else {}
    objective = objectives[settings.objective]
    if shapes.domains == 2:
        return (cross_tasks if objective.rating else cross_lists)(settings, shapes, **options)
    return objective.sampler(settings, shapes, **options)


def _compiled_part(settings: Settings) -> Settings:
    """Resets the settings that a compiled program must not depend on."""
    plain = Settings()
    kept = {name: getattr(plain, name) for name in ("data", "fold", "seed", *reading_fields)}
    return dataclasses.replace(settings, **kept)


def _begin(
    settings: Settings,
    training: TrainingSet,
    method: Method,
    initial: Callable[[Params], Params],
) -> Progress:
    shapes = shapes_of(training)
    network = method.network(settings, shapes)
    key = jax.random.key(settings.seed)
    sampler = sampler_of(settings, shapes, method)
    tasks = jax.eval_shape(sampler.sample, sampler.table(training, seed=settings.seed), key)
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tasks)
    _check_patterns(settings.options, network.init, key, blank)
    initialised = network._replace(init=lambda key, inputs: initial(network.init(key, inputs)))
    return begin(method.learner(settings, initialised).init(key, blank))


def _check_patterns(options: Any, init: Callable[..., Params], key: jax.Array, tasks: Task) -> None:
    """Refuses patterns of the option `adapts` that match no parameter of the network."""
    patterns = getattr(options, "adapts", ())
    if not patterns:
        return
    one = jax.tree.map(lambda leaf: leaf[0], tasks.support.inputs)
    known = paths(jax.eval_shape(init, key, one))
    for pattern in patterns:
        if not any(map(matching(pattern), known)):
            raise ValueError(f"adapts must fit a parameter, got {pattern!r}; {', '.join(known)}.")
