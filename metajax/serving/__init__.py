"""A service that adapts to a user's events and loses none of them.

Events are kept in a log; whatever is known of a user is read from it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as t, Store(f"sqlite:///{t}/e.db") as store:
    ...     click = Event("e1", "ada", "50", "view", None, time=1.7e9)
    ...     first, again = store.add_events([click]), store.add_events([click])
    ...     first.accepted, again.duplicates, store.events_of("ada", 10)[0].item
    (1, 1, '50')
"""

from metajax.serving.events import Answer, Event, Shown, labels_of
from metajax.serving.store import DeletedError, Item, Outcome, Store, StoreError

__all__ = [
    "Answer",
    "DeletedError",
    "Event",
    "Item",
    "Outcome",
    "Shown",
    "Store",
    "StoreError",
    "labels_of",
]
