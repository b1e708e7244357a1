"""Does it pay to know which items come late?

    python benchmarks/pool_frequency.py [--folds N]

NDCG@10 at K = 0 of popularity, and of popularity less half of how often an item is in a pool of
ten of the training users, on MovieLens-100K: P1, whose candidates are all items but the pool, and
the natural reading, which asks for the pool as well. Seed 0; no setting is chosen. A difference in
brackets is a 95 % bootstrap interval, paired by user.
"""

import argparse

import jax.numpy as jnp
import numpy as np

from metajax.baselines.popularity import liked_counts
from metajax.data import load
from metajax.data.cold_users import cold_users_of
from metajax.evaluation import evaluate, prepare
from metajax.evaluation.evaluate import Evaluation, natural_reading
from metajax.types import Adaptation

SCORES = Adaptation(
    lambda scores, support, key=None: (), lambda scores, _, inputs: scores[inputs.item]
)
RESAMPLES = 10_000


def ndcg(found: Evaluation) -> np.ndarray:
    """NDCG@10 at K = 0 of the users who have something relevant, NaN of the others."""
    per_user = found.per_user
    return np.where(per_user.has_relevant[0], per_user.values["ndcg@10"][0], np.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--folds", type=int, default=5, help="folds of cold users")
    folds = parser.parse_args().folds

    dataset = load("ml-100k")
    users: dict[tuple[str, str], list[np.ndarray]] = {}
    for fold in range(folds):
        split = prepare("P1", dataset, fold=fold, seed=0)
        popular = liked_counts(split.final)
        everyone = np.concatenate([split.fold.train, split.fold.validation])
        for order, pools in cold_users_of(dataset, everyone, seed=0).items():
            shown = pools.support_item[pools.support_mask]
            pooled = np.bincount(shown, minlength=len(popular))
            pair = []
            for scores in (popular, popular - pooled / 2):
                found = evaluate(
                    SCORES,
                    jnp.asarray(scores, jnp.float32),
                    split.test[order],
                    split.final.user_features,
                    split.final.item_features,
                    scale=split.final.scale,
                    ks=(0,),
                    rating=False,
                    natural=True,
                )
                natural = natural_reading(found)
                assert natural is not None
                pair.append((ndcg(found), ndcg(natural)))
            for reading, both in zip(("P1", "P1-natural"), zip(*pair, strict=True), strict=True):
                users.setdefault((order, reading), []).append(np.stack(both))

    print("| order, reading | popularity | less half the pool frequency | difference |")
    print("| --- | --- | --- | --- |")
    rng = np.random.default_rng(0)
    for (order, reading), parts in users.items():
        both = np.concatenate(parts, axis=1)
        both = both[:, ~np.isnan(both).any(axis=0)]
        difference = both[1] - both[0]
        drawn = rng.integers(len(difference), size=(RESAMPLES, len(difference)))
        low, high = np.quantile(difference[drawn].mean(axis=1), (0.025, 0.975))
        print(
            f"| {order}, {reading} | {both[0].mean():.3f} | {both[1].mean():.3f} | "
            f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}] |"
        )


if __name__ == "__main__":
    main()
