import jax.numpy as jnp
import numpy as np
import pytest

from metajax.cross_domain.overlap import copy_rows, matched_rows

SOURCE, TARGET = np.arange(8.0).reshape(4, 2), -np.ones((3, 2))


def test_rows_of_equal_ids_are_copied_and_the_others_stay():
    overlap = matched_rows(["d", "a", "c", "b"], ["b", "x", "d"])
    np.testing.assert_array_equal(overlap, [[3, 0], [0, 2]])
    copied = copy_rows(TARGET, SOURCE, overlap)
    np.testing.assert_array_equal(copied, [[6, 7], [-1, -1], [0, 1]])


def test_ids_of_different_types_are_matched_by_listed_pairs():
    overlap = matched_rows([10, 20, 30, 40], ["u", "v", "w"], pairs=[(40, "v"), (10, "w")])
    np.testing.assert_array_equal(overlap, [[3, 1], [0, 2]])


def test_unknown_ids_are_counted_and_the_first_five_named():
    pairs = [(n, "u") for n in range(7)]
    with pytest.raises(
        ValueError, match=r"ids of the source, got 6 unknown: 1, 2, 3, 4, 5, \.\.\."
    ):
        matched_rows([0], ["u"], pairs=pairs)
    with pytest.raises(ValueError, match=r"ids of the target, got 1 unknown: 'w'\."):
        matched_rows([0], ["u"], pairs=[(0, "w")])


def test_tables_without_a_match_are_refused():
    with pytest.raises(ValueError, match=r"a match, got none among \['1', '2'\] and \['u1'\]"):
        matched_rows(["1", "2"], ["u1"])
    with pytest.raises(ValueError, match="source_ids must be distinct, got 2 of which some"):
        matched_rows(["1", "1"], ["1"])


def test_a_number_does_not_equal_its_text():
    with pytest.raises(ValueError, match=r"ids of one type to be matched, got numbers and text\."):
        matched_rows([7, 8], ["7", "u"])
    # A list of pairs resolves it.
    assert matched_rows([7, 8], ["7", "u"], pairs=[(8, "7")]).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("overlap", "message"),
    [
        ([[0, 3], [-1, 0], [1, 1]], r"got 2 unknown: \[0, 3\], \[-1, 0\]\."),
        (np.zeros((0, 2), int), r"at least one, got the shape \(0, 2\)"),
        ([[0.0, 1.0]], "pairs of whole numbers"),
        ([[0, 1, 2]], r"got the shape \(1, 3\)"),
    ],
)
def test_rows_that_are_not_there_are_refused(overlap, message):
    with pytest.raises(ValueError, match=message):
        copy_rows(TARGET, SOURCE, overlap)


def test_tables_of_other_widths_are_refused():
    with pytest.raises(ValueError, match=r"rows like \(2,\), got \(3,\)"):
        copy_rows(TARGET, jnp.zeros((4, 3)), [[0, 0]])
