"""What can be said of an item of any domain: how it is rated there, and which attributes it has."""

import numpy as np

from metajax.baselines.biases import check_positive
from metajax.data.dataset import TrainingSet

__all__ = ["content_groups", "content_traits", "domain_levels", "item_domains", "taste_map"]


def content_traits(training: TrainingSet, *, item_ridge: float = 5.0) -> np.ndarray:
    """Describes items by how they are rated in their own domain.

    Args:
        training: The log; without `item_domain` there is one domain.
        item_ridge: As many ratings at the domain's mean are added to each item's, > 0.

    Returns:
        `[I, 3]`: 1, how well the item is liked, and the logarithm of how many rated it. The last
        two have mean 0 and variance 1 over the ratings of each domain, so that they mean the
        same in both.

    Raises:
        ValueError: If the ridge is not positive.
    """
    check_positive(item_ridge=item_ridge)
    log, domain = training.interactions, item_domains(training)
    items = len(domain)
    count = np.bincount(log.item, minlength=items)
    rest = log.rating - domain_levels(training)[domain[log.item]]
    liked = np.bincount(log.item, rest, items) / (count + item_ridge)
    traits = np.stack([np.ones(items), liked, np.log1p(count)], axis=1)
    for side in np.unique(domain[log.item]):
        here = domain == side
        share = count[here] / np.sum(count[here])
        centred = traits[here, 1:] - share @ traits[here, 1:]
        spread = np.sqrt(share @ centred**2)
        # Rounding makes the spread of equals tiny and not zero.
        traits[here, 1:] = centred / np.where(spread > 1e-6, spread, 1)
    traits[count == 0, 1:] = 0
    return traits


def content_groups(training: TrainingSet) -> np.ndarray:
    """Groups items: the target is one, and the source falls in two by what its items are like.

    The halves lie on the two sides of the median along the main axis of the attributes, or about.
    How far tastes carry from one to the other tells how far they may carry to a domain in which
    nobody is known.

    Args:
        training: The log and the attributes; without `item_domain` all is source.

    Returns:
        `[I]` int64: 0 and 1 in the source, 2 in the target. Without attributes, or where all are
        alike, 0 and 2.
    """
    domain = item_domains(training)
    count = np.bincount(training.interactions.item, minlength=len(domain)) * (domain == 0)
    if not np.sum(count):
        return 2 * domain
    share = count / np.sum(count)
    features = np.asarray(training.item_features, np.float64)
    features = features - share @ features
    if not np.sum(features**2 * share[:, None]) > 1e-9:
        return 2 * domain
    _, axes = np.linalg.eigh((features * share[:, None]).T @ features)
    # The sign of an axis is an accident of the solver: its largest entry shall be positive.
    axis = axes[:, -1] * np.sign(axes[np.argmax(np.abs(axes[:, -1])), -1])
    along = features @ axis
    # Of attributes of few values the median may be the largest: the cut nearest to it is not.
    values, place = np.unique(np.round(along[share > 0], 6), return_inverse=True)
    below = np.cumsum(np.bincount(place, share[share > 0]))[:-1]
    cut = values[np.argmin(np.abs(below - 0.5))]
    return np.where(domain == 1, 2, np.round(along, 6) > cut).astype(np.int64)


def domain_levels(training: TrainingSet) -> np.ndarray:
    """Returns `[2]` the mean rating of each domain; 0 of one that nobody rated."""
    rating = training.interactions.rating.astype(np.float64)
    side = item_domains(training)[training.interactions.item]
    return np.bincount(side, rating, 2) / np.maximum(np.bincount(side, minlength=2), 1)


def item_domains(training: TrainingSet) -> np.ndarray:
    """Returns `[I]` int64, the domain of each item; one domain is the source."""
    if training.item_domain is None:
        return np.zeros(len(training.item_features), np.int64)
    return np.asarray(training.item_domain, np.int64)


def taste_map(
    training: TrainingSet, noise: float, *, share: float = 0.07, most: int = 32
) -> np.ndarray:
    """Maps attributes to directions along which users' tastes for them have a unit prior.

    Args:
        training: Items with features.
        noise: Variance of a rating.
        share: How much of it tastes explain of an average rated item, before anything is known
            of the user.
        most: Directions that are kept: wide attributes keep their main axes.

    Returns:
        `[Di, min(Di, most)]`, the main axes of the features of rated items first.
    """
    rated = np.unique(training.interactions.item)
    features = np.asarray(training.item_features, np.float64)[rated]
    moment = features.T @ features / len(rated)
    _, axes = np.linalg.eigh(moment)
    scale = np.sqrt(share * noise / max(np.trace(moment), 1e-9))
    return scale * axes[:, ::-1][:, :most]
