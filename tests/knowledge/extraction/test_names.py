import random

import pytest

from metajax.knowledge.extraction.names import merged_names, similarity


def pairs(counts, **options):
    return {(m.name, m.resolved) for m in merged_names(counts, **options)}


def reference(one, other):
    """Optimal string alignment distance by the recurrence, without shortcuts."""
    if not one or not other:
        return len(one) + len(other)
    found = min(
        reference(one[:-1], other) + 1,
        reference(one, other[:-1]) + 1,
        reference(one[:-1], other[:-1]) + (one[-1] != other[-1]),
    )
    if one[-1:] == other[-2:-1] and one[-2:-1] == other[-1:] and len(one) > 1 < len(other):
        found = min(found, reference(one[:-2], other[:-2]) + 1)
    return found


def test_similarity_is_that_of_the_recurrence():
    rng = random.Random(0)
    for _ in range(200):
        one, other = ("".join(rng.choices("ab ", k=rng.randint(1, 6))) for _ in range(2))
        wanted = 1 - reference(one, other) / max(len(one), len(other))
        assert similarity(one, other) == pytest.approx(wanted, abs=1e-12)
        for least in (0.3, 0.6, 0.9):
            found = similarity(one, other, least)
            assert found in (0.0, similarity(one, other))
            assert found or wanted < least + 1e-12


def test_equal_forms_are_the_most_frequent_spelling():
    counts = {"Kieslowski, Krzysztof": 1, "Krzysztof Kieślowski": 3, "krzysztof kieslowski": 2}
    assert pairs(counts) == {
        ("Kieslowski, Krzysztof", "Krzysztof Kieślowski"),
        ("krzysztof kieslowski", "Krzysztof Kieślowski"),
    }
    assert pairs({"B a": 1, "b A": 1}) == {("b A", "B a")}
    assert pairs({"Agee, James": 1, "James Agee": 1}) == {("Agee, James", "James Agee")}


def test_near_names_are_merged_with_the_more_frequent_one():
    counts = {"Quentin Tarantino": 2, "Quentin Tarrantino": 1, "Stephen Spielberg": 1}
    counts |= {"Steven Spielberg": 9, "Quentin Traantino": 1}
    found = merged_names(counts)
    assert {(m.name, m.resolved, m.how) for m in found} == {
        ("Quentin Tarrantino", "Quentin Tarantino", "distance"),
        ("Quentin Traantino", "Quentin Tarantino", "distance"),
    }
    assert all(0.9 <= m.similarity < 1 for m in found)
    assert ("Stephen Spielberg", "Steven Spielberg") in pairs(counts, threshold=0.8)
    assert pairs(counts, threshold=1.0) == set()


def test_other_initials_digits_and_words_are_other_names():
    for one, other in (
        ("Christopher Nolan", "Christopher Dolan"),
        ("A Very Long Name of a Sequel 2", "A Very Long Name of a Sequel 3"),
        ("Voyage of Apollo12 Beyond", "Voyage of Apollo13 Beyond"),
        ("Robert Downey Senior", "Robert Downey"),
    ):
        assert pairs({one: 5, other: 1}, threshold=0.8) == set()


def test_merges_are_of_one_step():
    # The third is near to the second alone, which is itself a spelling of the first.
    counts = {"Alexander Bernhardt": 9, "Alexander Bernhart": 3, "Alexandr Bernhart": 1}
    found = pairs(counts, threshold=0.93)
    assert found == {("Alexander Bernhart", "Alexander Bernhardt")}


def test_known_names_win_and_are_never_merged():
    known = ["Wim Wenders", "Wim Wnders"]
    assert pairs({"wim wenders": 9, "Wim Wendrs": 5}, known=known, threshold=0.9) == {
        ("wim wenders", "Wim Wenders"),
        ("Wim Wendrs", "Wim Wenders"),
    }


def test_what_a_person_has_told_apart_stays_apart():
    counts = {"Quentin Tarantino": 2, "Quentin Tarrantino": 1, "quentin tarantino": 1}
    refused = [("Quentin Tarrantino", "Quentin Tarantino")]
    assert pairs(counts, refused=refused) == {("quentin tarantino", "Quentin Tarantino")}
    refused = [("quentin tarantino", "Quentin Tarantino")]
    assert pairs(counts, refused=refused) == {("Quentin Tarrantino", "Quentin Tarantino")}


def test_a_threshold_out_of_range_is_refused():
    with pytest.raises(ValueError, match="threshold must be > 0 and <= 1, got 0"):
        merged_names({"a": 1}, threshold=0)
