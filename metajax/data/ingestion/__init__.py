"""Ingestion of logs of any size into a store, in memory that their number of rows does not change.

The log is read in batches. Each becomes a run on the disk: its rows sorted by user, with codes for
ids in the order of their first appearance. Once all ids are known and sorted, a shard of the store,
which is a range of users, is a slice of every run; the slices are joined, sorted and appended.

A run and a shard are committed by a small file of facts, written last. So work that was killed goes
on behind the last of them, and comes to the same bytes.
"""

from metajax.data.ingestion.stores import ingest

__all__ = ["ingest"]
