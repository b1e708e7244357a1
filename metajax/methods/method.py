"""The contract of a trained method: network, initial values, learner, tasks, options and grid."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Search
from metajax.methods.settings import Options, Settings
from metajax.methods.tasks import Sampler
from metajax.types import MetaLearner, Params

__all__ = ["Method", "random_values"]


def random_values(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Keeps the random parameters of the network's `init`: the default of `Method.initial`."""
    del settings, training
    return lambda params: params


class Method(NamedTuple):
    """A trained method: functions from settings to network, learner and tasks.

    `learner`, `network` and `sampler` may depend on any setting but data, fold and seed: one
    compiled program serves all of those. The method's own options are `settings.options`.

    Example:
        >>> from metajax import learners, methods, networks
        >>> linear = Method(
        ...     "linear",
        ...     learner=methods.by_gradient_steps(learners.maml),
        ...     network=lambda settings, shapes: networks.from_linen(networks.Tower((1,))),
        ... )
    """

    name: str
    """Name in tables, in `Settings.method` and on the command line."""
    learner: Callable[[Settings, Any], MetaLearner]
    """`learner(settings, network)`: the outer update around the adaptation."""
    network: Callable[[Settings, Shapes], Any]
    """`network(settings, shapes)`: a `Model`, or another NamedTuple with such an `init`."""
    initial: Callable[[Settings, TrainingSet], Callable[[Params], Params]] = random_values
    """`initial(settings, training)` returns a map from random to initial parameters: closed forms,
    fitted to the training users alone."""
    sampler: Callable[[Settings, Shapes], Sampler] | None = None
    """`sampler(settings, shapes)`: the training tasks; None: those of the objective."""
    tables: tuple[str, ...] = ()
    """Patterns of paths of tables with a row an item that the network reads at the items of its
    inputs alone, such as `item_tables`; large ones are updated as by `learners.touched_rows`."""
    members: bool = False
    """True if tasks carry the user's index, for networks with one row a training user."""
    options: type = Options
    """Frozen dataclass of the method's own options, each with a default."""
    settings: Mapping[str, Any] = MappingProxyType({})
    """The method's defaults where they differ from those of `Settings` and `options`."""
    grid: tuple[Mapping[str, Any], ...] = ({},)
    """Changes of the defaults to try on validation users, no change first."""
    ranges: Mapping[str, Search] = MappingProxyType({})
    """Values that a search tries of settings and options, where they are not those of the fields;
    what the grid changes and neither names is a choice among the values there."""
    kind: Literal["baseline", "learned"] = "learned"
    """A baseline or a learned method in comparisons."""
    any_support: bool = False
    """True if it adapts to more interactions than the `Settings.support` of training; otherwise
    evaluation truncates the support."""
    needs_ratings: bool = False
    """True if it cannot learn from a log without ratings; the others order the items there, by an
    objective that does."""
    two_domains: bool = False
    """True if it needs a source and a target domain."""
    most_items: int | None = None
    """Largest catalogue that it can be trained on; None: any."""
    trained_as: "Method | None" = None
    """A method with the same training and another adaptation: the grid acts after training, so
    that all settings share one training."""

    def __hash__(self) -> int:
        """Hashes the name, so that a method can be a cache key."""
        return hash(self.name)
