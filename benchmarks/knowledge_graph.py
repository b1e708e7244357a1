"""Accuracy and time of RotatE here and in PyKEEN.

    python benchmarks/knowledge_graph.py [--datasets umls,nations] [--seeds 5] [--json FILE]

Both train RotatE with the same score (the sum of moduli), initialisation, margin, loss, optimizer,
number of updates and of negatives, and both are ranked by the same program: filtered, both sides,
all entities, realistic ranks, the test triples once. Two settings: negative heads and tails, the
default of PyKEEN, and negative heads, relations and tails without known triples. Each runs in its
own process on one thread; CPU seconds of an epoch are the median over seeds, without compilation,
and memory is the peak of the process. The programs differ: PyKEEN draws negatives for each triple,
here 32 triples share them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from knowledge_data import Split, benchmark_graph
from rich.console import Console
from rich.table import Table

__all__ = ["main"]

WIDTH, MARGIN, RATE, BATCH, BY_SLOT = 64, 9.0, 0.01, 256, 16
EPOCHS = {"umls": 50, "nations": 150}
SLOTS = {"entities": ("head", "tail"), "1:1:1": ("head", "relation", "tail")}
PACKAGES = ("metajax", "pykeen")


def train_here(split: Split, slots: tuple[str, ...], epochs: int) -> Callable[[int], Any]:
    """Returns a function from a seed to trained parameters and CPU seconds."""
    import jax
    import optax

    from metajax.knowledge import link_predictor, training_triples

    learner = link_predictor(
        "RotatE", optax.adam(RATE), width=WIDTH, margin=MARGIN, negatives=BY_SLOT, slots=slots,
        batch=BATCH,
    )  # fmt: skip
    sizes = {"entities": len(split.entities), "relations": len(split.relations)}
    filtered = slots if "relation" in slots else ()
    given = training_triples(split.train, **sizes, filtered=filtered)

    @jax.jit
    def trained(state: Any, key: jax.Array) -> Any:
        keys = jax.random.split(key, epochs)
        return jax.lax.scan(lambda s, k: learner.epoch(s, given, k), state, keys)[0]

    program = trained.lower(learner.init(jax.random.key(0), **sizes), jax.random.key(0)).compile()

    def run(seed: int) -> tuple[Any, float]:
        first, second = jax.random.split(jax.random.key(seed))
        state = learner.init(first, **sizes)
        began = time.process_time()
        params = jax.block_until_ready(program(state, second)).params
        return params, time.process_time() - began

    return run


def train_there(split: Split, slots: tuple[str, ...], epochs: int) -> Callable[[int], Any]:
    """As `train_here`, with PyKEEN."""
    import logging
    import warnings

    import jax.numpy as jnp
    import torch  # pyrefly: ignore[missing-import]
    from pykeen.losses import NSSALoss  # pyrefly: ignore[missing-import]
    from pykeen.models import ERModel  # pyrefly: ignore[missing-import]
    from pykeen.nn.init import init_phases  # pyrefly: ignore[missing-import]
    from pykeen.nn.modules import RotatEInteraction  # pyrefly: ignore[missing-import]
    from pykeen.training import SLCWATrainingLoop  # pyrefly: ignore[missing-import]
    from pykeen.triples import CoreTriplesFactory  # pyrefly: ignore[missing-import]
    from pykeen.utils import complex_normalize  # pyrefly: ignore[missing-import]

    from metajax.knowledge.scores import ComplexParts

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="'pin_memory'")
    logging.getLogger("pykeen").setLevel(logging.ERROR)

    class SumOfModuli(RotatEInteraction):
        # PyKEEN's own takes the root of the sum of squares, whatever its p.
        def forward(self, h: Any, r: Any, t: Any) -> Any:
            return -(h * r - t).abs().sum(dim=-1)

    sizes = {"num_entities": len(split.entities), "num_relations": len(split.relations)}
    factory = CoreTriplesFactory.create(torch.as_tensor(split.train), **sizes)
    bound = (MARGIN + 2) / WIDTH
    entity = partial(torch.nn.init.uniform_, a=-bound, b=bound)
    sampler: dict[str, Any] = {
        "num_negs_per_pos": BY_SLOT * len(slots),
        "corruption_scheme": slots,
    }
    if "relation" in slots:
        sampler |= {"filtered": True, "filterer": "python-set"}

    def run(seed: int) -> tuple[Any, float]:
        model = ERModel(
            triples_factory=factory,
            interaction=SumOfModuli,
            loss=NSSALoss(margin=MARGIN, adversarial_temperature=1.0),
            entity_representations_kwargs={
                "shape": WIDTH, "dtype": torch.cfloat, "initializer": entity,
            },
            relation_representations_kwargs={
                "shape": WIDTH, "dtype": torch.cfloat, "initializer": init_phases,
                "constrainer": complex_normalize,
            },
            random_seed=seed,
        )  # fmt: skip
        loop = SLCWATrainingLoop(
            model=model,
            triples_factory=factory,
            optimizer=torch.optim.Adam(model.parameters(), lr=RATE),
            negative_sampler_kwargs=sampler,
        )
        quiet = {"use_tqdm": False, "use_tqdm_batch": False}
        began = time.process_time()
        loop.train(triples_factory=factory, num_epochs=epochs, batch_size=BATCH, **quiet)
        seconds = time.process_time() - began
        found = [
            representation[0]().detach().numpy()
            for representation in (model.entity_representations, model.relation_representations)
        ]
        entities = ComplexParts(jnp.asarray(found[0].real), jnp.asarray(found[0].imag))
        return {"entity": entities, "relation": np.angle(found[1])}, seconds

    return run


def one_package(options: argparse.Namespace) -> dict[str, Any]:
    """Trains and ranks with every seed; returns the record."""
    began = time.process_time()
    split, slots = benchmark_graph(options.dataset), SLOTS[options.setting]
    epochs = options.epochs or EPOCHS[options.dataset]
    prepare = train_here if options.package == "metajax" else train_there
    run = prepare(split, slots, epochs)
    prepared = time.process_time() - began
    trained = [run(seed) for seed in range(options.seeds)]
    # Before ranking, which is the same program for both.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    from metajax.knowledge import filtered_ranks, ranking_metrics, score_of

    sizes = {"entities": len(split.entities), "relations": len(split.relations)}
    found = [
        ranking_metrics(
            filtered_ranks(score_of("RotatE"), params, split.test, **sizes, known=split.every)
        )
        for params, _ in trained
    ]
    return {
        "dataset": options.dataset,
        "method": f"RotatE, {options.package}",
        "setting": options.setting,
        "seeds": options.seeds,
        "epochs": epochs,
        "width": WIDTH,
        "margin": MARGIN,
        "negatives": BY_SLOT * len(slots),
        "metrics": {name: [one[name] for one in found] for name in found[0]},
        "epoch_cpu_ms": [round(1e3 * seconds / epochs, 3) for _, seconds in trained],
        "prepare_cpu_s": round(prepared, 2),
        "peak_bytes": memory,
    }


def records_of(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Turns what a process found into a record for each metric."""
    shared = {name: run[name] for name in ("dataset", "method", "setting", "seeds", "epochs")}
    metrics = {**run["metrics"], "epoch_cpu_ms": run["epoch_cpu_ms"]}
    records = [
        {
            **shared,
            "metric": name,
            "mean": round(float(np.mean(values)), 5),
            "low": round(float(np.min(values)), 5),
            "high": round(float(np.max(values)), 5),
            "median": round(float(np.median(values)), 5),
        }
        for name, values in metrics.items()
    ]
    once = ("prepare_cpu_s", "peak_bytes")
    return records + [{**shared, "metric": name, "mean": run[name]} for name in once]


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--datasets", default="umls,nations")
    parser.add_argument("--settings", default=",".join(SLOTS))
    parser.add_argument("--packages", default=",".join(PACKAGES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help=f"by default {EPOCHS}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    for name, choices in (("package", PACKAGES), ("dataset", EPOCHS), ("setting", SLOTS)):
        parser.add_argument(f"--{name}", choices=list(choices), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.package:
        print(json.dumps(one_package(options)))
        return []
    alone = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    runs = []
    for dataset in options.datasets.split(","):
        for setting in options.settings.split(","):
            for package in options.packages.split(","):
                command = [sys.executable, __file__, "--seeds", str(options.seeds)]
                command += ["--package", package, "--dataset", dataset, "--setting", setting]
                if options.epochs:
                    command += ["--epochs", str(options.epochs)]
                done = subprocess.run(
                    command, env={**os.environ, **alone}, stdout=subprocess.PIPE, check=True
                )
                runs.append(json.loads(done.stdout.splitlines()[-1]))
    _show(runs)
    records = [record for run in runs for record in records_of(run)]
    if options.json:
        from measuring import write

        write(options.json, records)
    return records


def _show(runs: list[dict[str, Any]]) -> None:
    table = Table(title=f"RotatE, {WIDTH} complex dimensions, margin {MARGIN:g}")
    headings = ("dataset", "false", "package", "MRR [lowest, highest]", "hits@10", "AMRI")
    for heading in (*headings, "CPU ms an epoch", "to prepare, s", "peak, MB"):
        table.add_column(heading)
    for run in runs:
        metrics = run["metrics"]
        mrr = metrics["mrr"]
        table.add_row(
            run["dataset"],
            run["setting"],
            run["method"].split()[-1],
            f"{np.mean(mrr):.3f} [{min(mrr):.3f}, {max(mrr):.3f}]",
            f"{np.mean(metrics['hits@10']):.3f}",
            f"{np.mean(metrics['amri']):.3f}",
            f"{np.median(run['epoch_cpu_ms']):.1f}",
            f"{run['prepare_cpu_s']:.1f}",
            f"{run['peak_bytes'] / 1e6:.0f}",
        )
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
