"""Logs without ratings, as they come: views, counts, events with weights."""

import numpy as np
import pytest

from metajax.data import load
from metajax.data.dataset import graded
from metajax.data.readers import DataError

EVENTS = (
    "time,user,item,event\n1,u,a,view\n2,u,a,cart\n3,u,a,view\n4,u,b,view\n5,v,a,purchase\n"
    "6,v,b,remove\n"
)
WEIGHTS = "view=1,cart=3,purchase=10,remove=0"


def read(tmp_path, text, name="log.csv", **options):
    path = tmp_path / name
    path.write_text(text)
    return load(str(path), **options)


def rows(dataset):
    log = dataset.interactions
    columns = log.user_ids[log.user], log.item_ids[log.item], log.rating, log.time
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize(
    ("text", "options", "expected", "note"),
    [
        # Who met what, repeated or not.
        ("user,item\nu,a\nu,b\n", {}, [("u", "a", 1, 0), ("u", "b", 1, 0)], ""),
        (
            "user,item,timestamp\nu,a,9\nu,b,2\nu,a,5\n",
            {},
            [("u", "a", 1, 9), ("u", "b", 1, 2)],
            "1 of 3 rows repeat a pair of user and item: newest is taken",
        ),
        (
            "user,item\nu,a\nu,b\nu,a\n",
            {"duplicates": "count"},
            [("u", "a", 2, 0), ("u", "b", 1, 0)],
            "1 of 3 rows repeat a pair of user and item: count is taken",
        ),
        # Ratings that are all equal.
        (
            "user,item,rating\nu,a,1\nu,b,1\nu,a,1\n",
            {"scale": (0, 1)},
            [("u", "a", 1, 0), ("u", "b", 1, 0)],
            "1 of 3 rows repeat",
        ),
        # Counts.
        (
            "user,artist,plays\nu,a,3\nu,b,1\nu,a,4\n",
            {"item_column": "artist"},
            [("u", "a", 7, 0), ("u", "b", 1, 0)],
            "column 'plays' is read as counts: how strong an interaction is, no rating",
        ),
        (
            "user,item,n,rating\nu,a,3,5\nu,b,1,5\n",
            {"count_column": "n"},
            [("u", "a", 3, 0), ("u", "b", 1, 0)],
            "columns not used: 'rating'",
        ),
        (
            "user,item,quantity\nu,a,3\nu,b,1\nu,b,-1\n",
            {},
            [("u", "a", 3, 0)],
            "1 of 2 pairs have a count of 0 or less and are left out",
        ),
        (
            "user,item,plays\nu,a,3\nu,b,1\n",
            {"rating_column": "plays"},
            [("u", "a", 3, 0), ("u", "b", 1, 0)],
            "",
        ),
        # Events.
        (
            EVENTS,
            {"event_column": "event"},
            [("u", "a", 1, 3), ("u", "b", 1, 4), ("v", "a", 1, 5), ("v", "b", 1, 6)],
            "every event is an interaction, whichever it is: view (3), cart (1), purchase (1), rem",
        ),
        (
            "user,item,event,feedback\nu,a,view,3\n",
            {"event_column": "event"},
            [("u", "a", 1, 0)],
            "columns not used: 'feedback'",
        ),
        (
            EVENTS,
            {"weights": WEIGHTS},
            [("u", "a", 3, 3), ("u", "b", 1, 4), ("v", "a", 10, 5)],
            "1 of 6 rows are dropped by weight=0",
        ),
        (
            EVENTS.replace("event", "what"),
            {"event_column": "what", "weights": WEIGHTS, "duplicates": "sum"},
            [("u", "a", 5, 3), ("u", "b", 1, 4), ("v", "a", 10, 5)],
            "2 of 5 rows repeat a pair of user and item: sum is taken",
        ),
        (
            EVENTS,
            {"weights": {"view": 1, "cart": 3, "purchase": 10, "remove": 0.5}},
            [("u", "a", 3, 3), ("u", "b", 1, 4), ("v", "a", 10, 5), ("v", "b", 0.5, 6)],
            "2 of 6 rows repeat a pair of user and item: max is taken",
        ),
    ],
)
def test_logs_without_ratings_are_read_with_strengths(tmp_path, text, options, expected, note):
    found = read(tmp_path, text, **options)
    assert rows(found) == expected
    assert found.implicit == ("rating_column" not in options)
    assert any(line.startswith(note) for line in found.notes) if note else found.notes == ()


def test_atomic_files_have_counts_and_events_too(tmp_path):
    text = "user_id:token\titem_id:token\tkind:token\nu\ta\tview\nu\ta\tbuy\nu\tb\tskip\n"
    weights = {"weights": "view=1,buy=5,skip=0"}
    found = read(tmp_path, text, "log.inter", event_column="kind", **weights)
    assert rows(found) == [("u", "a", 5, 0)]
    assert found.notes[0] == "1 of 3 rows are dropped by weight=0"
    assert read(tmp_path, text, "log.inter", event_column="kind").implicit
    counted = read(tmp_path, text.replace("kind:token", "count:float").replace("view", "2")
                   .replace("buy", "3").replace("skip", "1"), "log.inter")  # fmt: skip
    assert rows(counted) == [("u", "a", 5, 0), ("u", "b", 1, 0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weights": "view=1,cart=3"},
            r"'event': the event 'purchase' has no weight; the events a",
        ),
        ({"weights": WEIGHTS + ",wish=2"}, "there is no event 'wish', which has a weight; the eve"),
        ({"weights": "view"}, "weights must read 'view=1,purchase=10' with weights of at least 0"),
        ({"weights": "view=-1"}, "weights must read .* got 'view=-1'"),
        ({"weights": "view=1,view=2"}, "weights must name the event 'view' once, got it twice"),
        ({"weights": "view=0"}, "weights must have one above 0, got 'view=0'"),
        (
            {"weights": WEIGHTS, "rating_column": "event"},
            "rating_column and weights, of events, ex",
        ),
        ({"count_column": "a", "event_column": "b"}, "count_column and event_column exclude each"),
        ({"event_column": "evnt"}, "no column 'evnt'; .* did you mean 'event'"),
        ({"weights": WEIGHTS, "scale": (0.0, 1.0)}, "scale must be None where a log has no ratin"),
        (
            {"weights": WEIGHTS, "relevant": 11},
            r"\(--relevant\) must be above 0 and at most .*\(10",
        ),
    ],
)
def test_options_of_events_that_do_not_fit_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, EVENTS, **options)


def test_columns_that_cannot_be_told_are_asked_about(tmp_path):
    with pytest.raises(DataError, match="the column of events is not recognised; found 'user', "):
        read(tmp_path, "user,item,kind\nu,a,view\n", weights="view=1")
    with pytest.raises(DataError) as caught:
        read(tmp_path, "user,item,num_plays\nu,a,3\n")
    assert "--rating-column num_plays or, if it counts, --count-column num_plays" in (
        caught.value.on_command_line()
    )
    with pytest.raises(DataError, match="line 2, column 'count': no count is above 0"):
        read(tmp_path, "user,item,count\nu,a,0\n")


def test_the_threshold_grades_counts_with_their_logarithm_where_it_is_asked_for(tmp_path):
    text = "user,item,plays\nu,a,1\nu,b,3\nu,c,7\nu,d,100\n"
    for transform, expected in (
        ("none", [1 / 7, 3 / 7, 1, 1]),
        ("log1p", [np.log(2) / np.log(8), 2 / 3, 1, 1]),
    ):
        dataset = read(tmp_path, text, relevant=7, transform=transform)
        np.testing.assert_allclose(graded(dataset).interactions.rating, expected, rtol=1e-6)
    tenths = read(tmp_path, text.replace(",7", ",7.1"), relevant=7.1)
    assert graded(tenths).interactions.rating[2] == 1
