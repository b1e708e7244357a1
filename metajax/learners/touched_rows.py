"""Outer updates that read and write only the table rows of the items in their tasks."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metajax.adaptation import matching
from metajax.adaptation.partition import paths
from metajax.learners.outer import checked_tasks
from metajax.types import Examples, MetaLearner, MetaState, Task

__all__ = ["touched_rows"]


def touched_rows(
    of_items: Callable[[int], MetaLearner], items: int, *tables: str, sparse: int = 4
) -> MetaLearner:
    """Restricts the updates of large tables to the rows of the items that occur in the tasks.

    An update gathers those rows of the tables and of all that the optimizer and the learner keep of
    them, such as moments and learned rates, makes an ordinary update with the rows as catalogue,
    and writes them back. The gradient is that of the rows, too. Its time and memory depend on the
    tasks and not on the number of items; a state that is donated is updated in place.

    With AdamW this is lazy AdamW: moments and weights of a row decay only at updates whose tasks
    have it, by one step; the correction of the bias counts all updates. Where every row occurs at
    every update it is AdamW. Rows of padding alone keep their bits.

    Args:
        of_items: `of_items(n)`: the learner on a catalogue of n items. `n` is only in the shapes of
            tables, whose rows its network reads at `Inputs.item` of the tasks and nowhere else.
        items: I, the size of the catalogue.
        *tables: Shell-style patterns of the paths of the tables in the parameters, each of I rows,
            for instance `item_embedding/*`.
        sparse: Updates are of all rows where I is below this many times the number of
            interactions in the tasks.

    Returns:
        The learner of all items, with such updates; where its outer optimizer is changed by
        `with_outer`, they are of all rows.

    References:
        LazyAdam of TensorFlow Addons and SparseAdam of PyTorch, which have no weight decay.
        Adam and its decay: Kingma and Ba, ICLR 2015; Loshchilov and Hutter, ICLR 2019.
    """
    whole = of_items(items)
    # Moments and learned rates have the paths of their parameters as the last part of their own.
    is_table = matching(*(pattern for table in tables for pattern in (table, f"*/{table}")))

    def update(
        state: MetaState, tasks: Task, key: jax.Array | None = None
    ) -> tuple[MetaState, dict[str, jax.Array]]:
        tasks = checked_tasks(tasks)
        # What is padding occurs in no row.
        seen = [jnp.where(part.mask, part.inputs.item, items).ravel() for part in tasks]
        seen = jnp.concatenate(seen)
        if sparse * len(seen) > items:
            return whole.update(state, tasks, key)
        rows, local = jnp.unique(seen, size=len(seen), fill_value=items, return_inverse=True)
        numbers = jnp.split(local.astype(jnp.int32), [tasks.support.labels.size])
        local_tasks = Task(*map(_renumbered, tasks, numbers))
        # Past the end, where nothing is written, and each another: the writes are to be unique.
        rows = jnp.where(rows < items, rows, items + jnp.arange(len(rows)))

        chosen = [
            is_table(path) and jnp.shape(leaf)[:1] == (items,)
            for path, leaf in zip(paths(state), jax.tree.leaves(state), strict=True)
        ]
        chosen = jax.tree.unflatten(jax.tree.structure(state), chosen)
        # Past the end it is the last row: on real rows every model is finite.
        few = jax.tree.map(
            lambda leaf, table: leaf.at[rows].get(mode="clip") if table else leaf, state, chosen
        )
        moved, metrics = of_items(len(rows)).update(few, local_tasks, key)
        new = jax.tree.map(
            lambda old, new, table: (
                old.at[rows].set(new, mode="drop", unique_indices=True, indices_are_sorted=True)
                if table
                else new
            ),
            state,
            moved,
            chosen,
        )
        return new, metrics

    return whole._replace(update=update)


def _renumbered(part: Examples, item: jax.Array) -> Examples:
    inputs = part.inputs
    return part._replace(inputs=inputs._replace(item=item.reshape(inputs.item.shape)))
