import numpy as np
import pytest

from metajax.data.interactions import from_columns, select_rows, select_users

USERS, ITEMS = np.array(["u", "v", "w"]), np.array(["a", "b"])

# v rated b 5 at time 7 and a 3 at time 9; u rated b 4 at time 8; w rated nothing.
LOG = from_columns(
    np.array([1, 0, 1]),
    np.array([1, 1, 0]),
    np.array([5.0, 4.0, 3.0]),
    np.array([7, 8, 9]),
    user_ids=USERS,
    item_ids=ITEMS,
)


def test_rows_are_sorted_by_user_then_item():
    np.testing.assert_array_equal(LOG.offsets, [0, 1, 3, 3])
    np.testing.assert_array_equal(LOG.item, [1, 0, 1])
    np.testing.assert_array_equal(LOG.rating, [4, 3, 5])
    np.testing.assert_array_equal(LOG.time, [8, 9, 7])


def test_users_and_counts_are_derived_from_offsets_and_items():
    np.testing.assert_array_equal(LOG.user, [0, 1, 1])
    np.testing.assert_array_equal(LOG.users, [0, 1])
    np.testing.assert_array_equal(LOG.user_counts, [1, 2, 0])
    np.testing.assert_array_equal(LOG.item_counts, [1, 2])
    # The catalogue and not the rows decides how many items are counted.
    np.testing.assert_array_equal(select_users(LOG, np.array([2])).item_counts, [0, 0])


def test_a_log_has_times_where_they_differ():
    assert LOG.timed
    assert not LOG._replace(time=np.full_like(LOG.time, 5)).timed
    assert not LOG._replace(time=LOG.time[:0]).timed


def test_types_are_fixed():
    kinds = [LOG.offsets.dtype, LOG.item.dtype, LOG.rating.dtype, LOG.time.dtype]
    assert kinds == [np.int64, np.int32, np.float32, np.int64]


def test_the_order_of_lines_does_not_matter():
    order = np.array([2, 0, 1])
    again = from_columns(
        np.array([1, 0, 1])[order],
        np.array([1, 1, 0])[order],
        np.array([5.0, 4.0, 3.0])[order],
        np.array([7, 8, 9])[order],
        user_ids=USERS,
        item_ids=ITEMS,
    )
    for column, expected in zip(again, LOG, strict=True):
        np.testing.assert_array_equal(column, expected)


def test_an_implicit_log_has_ratings_of_one_and_no_times():
    log = from_columns(np.array([2]), np.array([0]), user_ids=USERS, item_ids=ITEMS)
    np.testing.assert_array_equal(log.rating, [1])
    np.testing.assert_array_equal(log.time, [0])


def test_an_empty_log_is_accepted():
    none = np.array([], int)
    log = from_columns(none, none, user_ids=USERS, item_ids=ITEMS)
    np.testing.assert_array_equal(log.offsets, [0, 0, 0, 0])


def test_only_the_chosen_users_keep_their_interactions():
    kept = select_users(LOG, np.array([0, 2]))
    np.testing.assert_array_equal(kept.offsets, [0, 1, 1, 1])
    np.testing.assert_array_equal(kept.item, [1])
    np.testing.assert_array_equal(kept.user_ids, USERS)


def test_only_the_chosen_rows_are_kept():
    kept = select_rows(LOG, np.array([False, True, False]))
    np.testing.assert_array_equal(kept.offsets, [0, 0, 1, 1])
    np.testing.assert_array_equal([kept.item[0], kept.rating[0], kept.time[0]], [0, 3, 9])


@pytest.mark.parametrize(
    ("user", "item", "rating", "message"),
    [
        ([0], [0, 1], [1.0], "item must have as many rows as user"),
        ([3], [0], [1.0], r"user must hold indices in \[0, 3\)"),
        ([0], [-1], [1.0], r"item must hold indices in \[0, 2\)"),
        ([0], [0], [np.nan], "rating must be finite, got nan"),
        ([1, 1], [0, 0], [1.0, 2.0], "got user 'v' with item 'a' twice"),
    ],
)
def test_an_invalid_log_is_refused(user, item, rating, message):
    with pytest.raises(ValueError, match=message):
        from_columns(
            np.array(user), np.array(item), np.array(rating), user_ids=USERS, item_ids=ITEMS
        )
