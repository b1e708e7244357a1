"""Cases of run folders, one file of which is damaged: what they serve and resume is the same.

Both runs, of a recommender and of a graph, are trained once, in a folder that the process removes.
"""

import atexit
import functools
import hashlib
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metajax import checkpoint, data, knowledge, runs
from metajax.knowledge import GraphSettings
from metajax.registry import settings_for
from metajax.runs import graph as graph_runs
from metajax.runs.folder import write_report
from tests.fuzz.case import Case
from tests.fuzz.mutations import damaged

__all__ = ["folder_case"]


class _Trained(NamedTuple):
    """A run, and what each of its checkpoints holds."""

    files: dict[str, bytes | None]
    """Its files by name."""
    found: dict[Any, dict[int, Any]]
    """What each call returns, by call and step."""


def folder_case(rng: random.Random) -> Case:
    """Draws a run, a file of it, damage, and what is done with the folder."""
    name = rng.choice(("run", "run", "graph"))
    call = rng.choice((_loaded, _resumed) if name == "run" else (_opened,))
    trained = _trained(name)
    files = dict(trained.files)
    damage = rng.random()
    chosen = rng.choice([file for file in files if file != "run/lock"])
    content = files[chosen]
    assert content is not None
    if damage < 0.06:
        files[chosen] = None
    elif damage < 0.12:
        del files[chosen]
    elif damage < 0.2:
        files[chosen] = trained.files[rng.choice(list(files))]
    elif damage < 0.98:
        files[chosen] = damaged(rng, content)

    def compared(folder: Path) -> Any:
        step, found, skipped = call(folder / "run")
        steps = trained.found[call]
        if not skipped and step != max(steps):
            return f"step {step}, and not the last, without a word"
        return found == steps.get(step)

    return Case(f"folder of {name}", files, compared, lambda: True)


def _loaded(folder: Path) -> tuple[int, Any, list[int]]:
    """Loads a recommender."""
    skipped: list[int] = []
    found = runs.load(folder, on_skip=lambda step, reason: skipped.append(step))
    catalogue = found.catalogue
    facts = (
        found.user_schema, found.scale, found.labels, found.rating, catalogue.ids.tolist(),
        catalogue.titles.tolist(), _digest(catalogue.item_features), repr(catalogue.item_domain),
    )  # fmt: skip
    return _step(folder, skipped), (_digest(found.params), facts), skipped


def _resumed(folder: Path) -> tuple[int, Any, list[int]]:
    """Resumes training; the run is at its end, so that its metrics are read and left."""
    skipped: list[int] = []
    run = runs.open_run(folder)
    progress = runs.resumed(run, on_skip=lambda step, reason: skipped.append(step))
    step = int(progress.state.step)
    if step == run.settings.updates:
        runs.train_run(run, progress, stop=lambda: True)
        metrics = (folder / "metrics.jsonl").read_text()
        return step, (_digest(progress), run.settings, metrics), skipped
    return step, (_digest(progress), run.settings, ""), skipped


def _opened(folder: Path) -> tuple[int, Any, list[int]]:
    """Opens a run on a graph."""
    skipped: list[int] = []
    run = graph_runs.open_run(folder)
    progress = runs.resumed(run, on_skip=lambda step, reason: skipped.append(step))
    split = run.split
    facts = (
        run.settings, split.training.entities.names, split.training.relations.names,
        *(part.triples.tolist() for part in (split.training, split.validation, split.test)),
        split.left_out, split.folded, split.training.links,
    )  # fmt: skip
    return int(progress.state.step), (_digest(progress), repr(facts)), skipped


def _step(folder: Path, skipped: list[int]) -> int:
    return max(step for step in checkpoint.steps(folder / "checkpoints") if step not in skipped)


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


@functools.cache
def _trained(name: str) -> _Trained:
    base = Path(tempfile.mkdtemp(prefix="fuzz-"))
    owner = os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(base, ignore_errors=True))
    folder = base / "run"
    if name == "graph":
        names = [f"e{n % 12}\tr{n % 2}\te{(n * 5 + 1) % 12}" for n in range(60)]
        (base / "g.tsv").write_text("\n".join(dict.fromkeys(names)))
        chosen = GraphSettings(source=str(base / "g.tsv"), width=4, epochs=2, batch=16)
        opened, progress = graph_runs.create(folder, chosen, knowledge.read_graph(base / "g.tsv"))
        runs.train_run(opened, progress)
        calls = (_opened,)
    else:
        rows = [f"u{n % 23}\ti{n % 11}\t{1 + n * n % 5}\t{n}" for n in range(23 * 9)]
        lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float", *rows]
        (base / "log.inter").write_text("\n".join(lines))
        settings = settings_for(
            "maml", data=str(base / "log.inter"), rank=2, width=2, embedding=2, steps=1, updates=4,
            tasks=2, query=2, per_dispatch=2, validate_every=2,
        )  # fmt: skip
        run, progress = runs.create(folder, settings, data.load(settings.data))
        runs.train_run(run, progress)
        calls = (_loaded, _resumed)
    write_report(folder, {"report.json": "[]\n", "report.html": "<!doctype html>\n"})
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files: dict[str, bytes | None] = {
        f"run/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in paths
    }
    found: dict[Any, dict[int, Any]] = {call: {} for call in calls}
    for step in sorted(checkpoint.steps(folder / "checkpoints"), reverse=True):
        for call in calls:
            at, value, _ = call(folder)
            assert at == step
            found[call][step] = value
        shutil.rmtree(folder / "checkpoints" / f"{step:08d}")
    return _Trained(files, found)
