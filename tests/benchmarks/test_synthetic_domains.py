import importlib
from pathlib import Path

import numpy as np
import pytest

from metajax import evaluation
from metajax.cross_domain.joint_fold_in import joint_fold_in
from metajax.cross_domain.target_only import target_only
from metajax.cross_domain.users import PANEL
from metajax.data.synthetic import world
from metajax.evaluation.intervals import summarise


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        yield importlib.import_module("synthetic_domains")


@pytest.fixture(scope="module")
def small():
    return world(users=1200, items=60, rank=2, overlap=1.0, cold=0.0, interactions=40, seed=3)


@pytest.fixture(scope="module")
def domains(script, small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("domains")
    folders = script.write_domains(folder, small.dataset, small.item_domain)
    return script.read_domains(folders, scale=small.dataset.scale)


def test_two_domains_come_back_from_files_as_they_were(small, domains):
    def rows(log, name):
        return sorted(
            zip(
                log.user_ids[log.user].tolist(),
                name[log.item].tolist(),
                log.rating.tolist(),
                log.time.tolist(),
                strict=True,
            )
        )

    dataset = small.dataset
    side = np.array(["source:", "target:"])[small.item_domain]
    named = np.char.add(side, dataset.items.ids)
    found = domains.dataset.interactions
    assert rows(found, found.item_ids) == rows(dataset.interactions, named)
    assert [i.split(":")[0] for i in domains.dataset.items.ids] == [
        ("source", "target")[d] for d in domains.item_domain
    ]
    assert domains.dataset.users.columns["age"].tolist() == dataset.users.columns["age"].tolist()


@pytest.mark.slow
def test_the_joint_prior_recovers_nine_tenths_of_the_possible_gain(script, small, domains):
    split = evaluation.prepare(evaluation.cross_domain(domains), domains.dataset, fold=0, seed=0)
    records = []
    for baseline in (target_only, joint_fold_in):
        method = evaluation.tuned(baseline, split, trials=1)[PANEL]
        judged = evaluation.judge(method, split, PANEL)
        records += [
            {"method": baseline.name, "metric": "rmse", "k": k, "mean": error}
            for k, error in zip(judged.ks, summarise(judged)["rmse"].tolist(), strict=True)
        ]
    best = script.best_possible(small, domains, [split], PANEL)
    lines = []
    script.add_recovered(records, best, lines.append)
    assert len(lines) == 3
    for local, joint, error in zip(records[:4], records[4:], summarise(best)["rmse"], strict=True):
        # Nobody foresees the noise.
        assert np.sqrt(small.bayes_params.noise) < error < joint["mean"]
        assert joint["best_possible"] == local["best_possible"] == error
        assert local["recovered"] == 0
        possible = local["mean"] - error
        assert joint["recovered"] == pytest.approx((local["mean"] - joint["mean"]) / possible)
        assert joint["recovered"] > 0.9
    with pytest.raises(ValueError, match="must include one of item_mean, target_only"):
        script.add_recovered(records[4:], best)
