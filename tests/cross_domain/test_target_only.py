import jax
import numpy as np
import pytest

from metajax.baselines import eb_fold_in
from metajax.cross_domain.target_only import target_only
from metajax.data.interactions import select_rows

DOMAIN = np.array([0, 1, 0, 1, 1, 0, 1])
SETTINGS = {"rank": 2, "item_ridge": 5.0}


@pytest.fixture(scope="module")
def fitted(training):
    """The method on both domains, and the plain fold-in on what is left without the source."""
    log = training.interactions
    alone = training._replace(interactions=select_rows(log, DOMAIN[log.item] == 1))
    both = training._replace(item_domain=DOMAIN)
    return target_only.fit(both, **SETTINGS), eb_fold_in.fit(alone, **SETTINGS)


def test_predictions_are_those_of_the_fold_in_of_the_target(fitted, make_support, candidates):
    params, plain = fitted
    shown = make_support([0, 2, 1, 5, 4], [5.0, 1.0, 4.0, 5.0, 2.0], padding=1)
    posterior = target_only.adaptation.adapt(params, shown)
    expected = eb_fold_in.adaptation.adapt(plain, make_support([1, 4], [4.0, 2.0]))
    for name in ("predict", "predict_variance"):
        ours = getattr(target_only.adaptation, name)(params, posterior, candidates)
        theirs = getattr(eb_fold_in.adaptation, name)(plain, expected, candidates)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_the_source_alone_has_no_effect(fitted, make_support):
    params, _ = fitted
    found = target_only.adaptation.adapt(params, make_support([0, 2], [5.0, 1.0]))
    silent = target_only.adaptation.adapt(params, make_support([], [], padding=2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, silent)


def test_one_domain_alone_is_refused(training):
    with pytest.raises(ValueError, match="must have two domains"):
        target_only.fit(training)
