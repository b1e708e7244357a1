"""Recent popularity: likes that count less the older they are."""

import jax.numpy as jnp
import numpy as np

from metajax.baselines.baseline import Baseline, adapt_to_nothing, check_positive
from metajax.baselines.popularity import Popularity, predict_popularity
from metajax.baselines.preferences import preference_curve, preferences, relevant_preference
from metajax.data.dataset import TrainingSet
from metajax.fields import Range
from metajax.types import Adaptation

__all__ = ["baselines", "recent_popularity"]

_DAY = 86_400


def _fit(training: TrainingSet, *, half_life: float = 90.0) -> Popularity:
    """Sums likes, each weighted by 1/2 to the power of its age in half-lives.

    Args:
        training: The training users' log; without times it counts likes. The age is that at the
            last interaction of the log.
        half_life: In days, of times in seconds; > 0.

    Raises:
        ValueError: If the half-life is not positive.
    """
    check_positive(half_life=half_life)
    log = training.interactions
    least = relevant_preference(training.scale, training.threshold)
    liked = preferences(training, preference_curve(training.scale)) >= least - 1e-5
    age = (log.time.max(initial=0) - log.time) / (_DAY * half_life)
    weighted = np.bincount(log.item, liked * 0.5**age, len(log.item_ids))
    return Popularity(jnp.asarray(weighted, jnp.float32))


recent_popularity = Baseline(
    "recent_popularity",
    "ranking",
    _fit,
    Adaptation(adapt_to_nothing, predict_popularity),
    grid=({}, {"half_life": 30.0}, {"half_life": 7.0}),
    ranges={"half_life": Range(1.0, 1000.0, log=True)},
    target_alone=True,
)

baselines: tuple[Baseline, ...] = (recent_popularity,)
