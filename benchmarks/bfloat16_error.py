"""Error of a MAML step with hidden layers in bfloat16.

    python benchmarks/bfloat16_error.py [--tasks 256] [--seeds 3] [--json FILE]

One meta-step of exact MAML on the towers of `workloads`, hidden layers in bfloat16; weights, the
last layer, losses and gradients are float32. Against the same in float32, as relative errors in
the 2-norm over all tasks:

- scores: the predictions for the query;
- change: what adaptation changed in them, the scores after it less those before it;
- loss: the mean loss of the query;
- gradient: the meta-gradient, all parameters together.

In full (form plain), a user's weights are rounded to bfloat16 whenever a layer reads them; as
factors, what changed in them is not. 0 steps are an ordinary supervised step on the query: what
bfloat16 costs without an inner loop.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import write
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from workloads import NAMED, OUTER_RATE, Work, draw, first_weights, maml_of, model_of

from metajax.adaptation import Form
from metajax.learners import supervised
from metajax.losses import squared_error

__all__ = ["main"]

FORMS: tuple[Form, ...] = ("plain", "factored")
QUANTITIES = ("scores", "change", "loss", "gradient")


def judged(work: Work, form: Form, dtype: Any) -> Callable[..., dict[str, Any]]:
    """Makes `judge(params, tasks) -> values`, by the names of `QUANTITIES`."""
    if work.steps:
        learner = maml_of(work, form=form, dtype=dtype)
    else:
        learner = supervised(model_of(work, dtype), squared_error, outer=optax.sgd(OUTER_RATE))

    def mean_loss(params: Any, tasks: Any) -> tuple[jax.Array, jax.Array]:
        def of_task(task: Any) -> tuple[jax.Array, jax.Array]:
            adapted = learner.adapt(params, task.support)
            scores = learner.predict(params, adapted, task.query.inputs)
            return jnp.mean(jnp.square(scores - task.query.labels)), scores

        losses, scores = jax.vmap(of_task)(tasks)
        return losses.mean(), scores

    @jax.jit
    def judge(params: Any, tasks: Any) -> dict[str, Any]:
        (loss, scores), gradient = jax.value_and_grad(mean_loss, has_aux=True)(params, tasks)
        nothing = tasks.support._replace(mask=jnp.zeros_like(tasks.support.mask))
        before = mean_loss(params, tasks._replace(support=nothing))[1]
        return {"scores": scores, "change": scores - before, "loss": loss, "gradient": gradient}

    return judge


def error(found: Any, right: Any) -> float:
    """Compares two trees: the norm of their difference, relative to the second's if it has one."""
    whole = float(optax.tree.norm(right))
    return float(optax.tree.norm(jax.tree.map(jnp.subtract, found, right))) / (whole or 1.0)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--tasks", type=int, default=256, help="users in a meta-step")
    parser.add_argument("--width", type=int, help="H, in place of the workloads'")
    parser.add_argument("--seeds", type=int, default=3, help="draws of tasks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    for name in ("tasks", "seeds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be >= 1, got {getattr(options, name)}.")
    return options


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    options = _options(arguments)
    records = []
    with Progress(console=Console(stderr=True)) as bar:
        cells = [(name, steps) for name in NAMED for steps in (0, 1, 5)]
        line = bar.add_task("", total=len(cells))
        for name, steps in cells:
            work = NAMED[name]._replace(steps=steps, tasks=options.tasks)
            if options.width is not None:
                work = work._replace(width=options.width)
            params = first_weights(work)
            drawn = [draw(work, seed) for seed in range(options.seeds)]
            exact = judged(work, "auto", None)
            expected = [exact(params, tasks) for tasks in drawn]
            bar.update(line, description=f"{name}, {steps} steps")
            for form in FORMS if steps else ("plain",):
                rounded = judged(work, form, jnp.bfloat16)
                for seed, (tasks, right) in enumerate(zip(drawn, expected, strict=True)):
                    found = rounded(params, tasks)
                    errors = {key: error(found[key], right[key]) for key in QUANTITIES}
                    records.append(
                        {"workload": name, "form": form, **work._asdict(), "seed": seed, **errors}
                    )
            bar.advance(line)
    _show(records)
    if options.json is not None:
        write(options.json, records)
    return records


def _show(records: list[dict[str, Any]]) -> None:
    table = Table(title="relative error of bfloat16, the greatest over the seeds")
    for heading in ("workload", "steps", "form", *QUANTITIES):
        table.add_column(heading)
    cells = dict.fromkeys((r["workload"], r["steps"], r["form"]) for r in records)
    for cell in cells:
        rows = [r for r in records if (r["workload"], r["steps"], r["form"]) == cell]
        # Not Python's max, which may pass over NaN.
        worst = [f"{np.max([row[key] for row in rows]):.2g}" for key in QUANTITIES]
        worst[QUANTITIES.index("change")] *= cell[1] > 0
        table.add_row(*map(str, cell), *worst)
    Console().print(table)


if __name__ == "__main__":
    main()
