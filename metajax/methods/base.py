"""What a learned method is to the table of recipes."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.parts import pretrained, rating_network
from metajax.methods.sampling import Sampler
from metajax.methods.settings import Settings
from metajax.types import MetaLearner, Params

__all__ = ["Recipe"]


class Recipe(NamedTuple):
    """A learned method, from settings to something that can be trained and judged.

    What it builds may depend on anything in the settings but the data, the fold and the seed:
    one compiled program serves all of those.
    """

    name: str
    """What tables, `Settings.learner` and the command line call it."""
    learner: Callable[[Settings, Any], MetaLearner]
    """`learner(settings, network)`: how the network is trained and adapts."""
    network: Callable[[Settings, Shapes], Any] = rating_network
    """`network(settings, shapes)`: what is trained, a `Model` or another with such an `init`."""
    start: Callable[[Settings, TrainingSet], Callable[[Params], Params]] = pretrained
    """`start(settings, training)` returns what makes the network's first parameters of random ones:
    closed forms, fitted to the training users alone."""
    sampler: Callable[[Settings, Shapes], Sampler] | None = None
    """`sampler(settings, shapes)` says what tasks it trains on; None: the objective's."""
    settings: Mapping[str, Any] = MappingProxyType({})
    """What its defaults are where they differ from those of `Settings`."""
    grid: tuple[Mapping[str, Any], ...] = ({},)
    """Changes of its defaults worth trying on validation users, no change first."""
    kind: Literal["baseline", "learned"] = "learned"
    """Whether it is one of those that meta-learning has to beat."""
    any_support: bool = False
    """Whether it may be shown more interactions of a user than `Settings.support`, which is what it
    was trained on; if not, those who judge it show it the first so many."""
    two_domains: bool = False
    """Whether it needs a source and a target."""
    trained_as: str | None = None
    """Another recipe that trains in just the same way and adapts in another: what is tuned here
    acts after training, so that all settings share one."""
