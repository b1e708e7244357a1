"""Content fold-in: a user's posterior over tastes for content features, in either domain."""

from typing import Any

from metajax.adaptation import ridge_head
from metajax.baselines.baseline import Baseline
from metajax.baselines.content import Content, content_evidence, fit_content
from metajax.cross_domain.domains import check_domains
from metajax.data.dataset import TrainingSet

__all__ = ["baselines", "content_fold_in"]


def _fit(training: TrainingSet, **settings: Any) -> Content:
    check_domains(training)
    return fit_content(training, **settings)


content_fold_in = Baseline(
    "content_fold_in",
    "rating",
    _fit,
    ridge_head(content_evidence),
    grid=({}, {"taste": 0.1}, {"taste": 0.02}),
    two_domains=True,
)

baselines: tuple[Baseline, ...] = (content_fold_in,)
