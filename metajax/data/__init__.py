"""Data: interaction logs, readers, named data sets, schemas, splits, leakage checks, samplers."""

from metajax.data.cold_items import (
    ItemTasks,
    SequenceTable,
    item_tasks,
    sample_item_tasks,
    sequence_table,
    split_items,
)
from metajax.data.cold_users import cold_users
from metajax.data.dataset import Dataset, Table, TrainingSet
from metajax.data.datasets import load, names
from metajax.data.fetch import DataUnavailable
from metajax.data.graph import (
    bipartite_graph,
    blank_graph,
    edges_of,
    training_graph,
)
from metajax.data.ingestion import ingest
from metajax.data.interactions import Interactions, from_columns
from metajax.data.leakage import LeakageError
from metajax.data.readers import (
    DataError,
    read,
    read_atomic,
    read_memory,
    read_movielens,
    read_table,
)
from metajax.data.reading import Reading
from metajax.data.sampler import (
    TaskTable,
    sample_candidate_tasks,
    sample_catalogue_tasks,
    sample_tasks,
    task_table,
)
from metajax.data.schema import Schema, encode, encode_rows, fit_schema
from metajax.data.splits import (
    ColdTasks,
    Fold,
    Split,
    cold_user_folds,
    cold_user_tasks,
    leave_k_out,
    time_split,
    warm_cold_quadrants,
)
from metajax.data.warm_cold import warm_cold

__all__ = [
    "ColdTasks",
    "DataError",
    "DataUnavailable",
    "Dataset",
    "Fold",
    "Interactions",
    "ItemTasks",
    "LeakageError",
    "Reading",
    "Schema",
    "SequenceTable",
    "Split",
    "Table",
    "TaskTable",
    "TrainingSet",
    "bipartite_graph",
    "blank_graph",
    "cold_user_folds",
    "cold_user_tasks",
    "cold_users",
    "edges_of",
    "encode",
    "encode_rows",
    "fit_schema",
    "from_columns",
    "ingest",
    "item_tasks",
    "leave_k_out",
    "load",
    "names",
    "read",
    "read_atomic",
    "read_memory",
    "read_movielens",
    "read_table",
    "sample_candidate_tasks",
    "sample_catalogue_tasks",
    "sample_item_tasks",
    "sample_tasks",
    "sequence_table",
    "split_items",
    "task_table",
    "time_split",
    "training_graph",
    "warm_cold",
    "warm_cold_quadrants",
]
