"""Entities under several spellings, merged by normalised form, then by edit distance.

References:
    Damerau, A technique for computer detection and correction of spelling errors, Communications
    of the ACM 7(3), 1964: insertions, deletions, substitutions and swaps of neighbours; here none
    inside a swap (optimal string alignment).
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

from metajax.knowledge.extraction.schema import folded

__all__ = ["Merge", "merged_names", "similarity"]


class Merge(NamedTuple):
    """A spelling that is taken for another name."""

    name: str
    """The spelling."""
    resolved: str
    """The name that it is taken for."""
    how: Literal["form", "distance"]
    """Equal normalised forms, or a short edit distance between them."""
    similarity: float
    """1 less the distance, as a share of the longer form; 1 where the forms are equal."""


def merged_names(
    counts: Mapping[str, int],
    *,
    threshold: float = 0.9,
    known: Collection[str] = (),
    refused: Collection[tuple[str, str]] = (),
) -> list[Merge]:
    """Finds spellings of the same name.

    Of names of one normalised form the one of a known name, else the most frequent one, else one
    without a comma, else the first in alphabetical order stands for all. By distance a form is only
    ever merged with a more frequent or a known one (of equally frequent ones with the first in
    alphabetical order), if it has as many words with the same initials and the same digits: a
    typing error seldom hits an initial, and sequels differ in a digit.

    Args:
        counts: How often each spelling occurs.
        threshold: Least similarity, above 0 and at most 1; 1 merges equal forms alone.
        known: Names that are right, such as those of a graph; they are never merged.
        refused: Pairs of a spelling and a name that a person has told apart.

    Returns:
        The merges, sorted by name.

    Raises:
        ValueError: If the threshold is out of range.

    Example:
        >>> found = merged_names({"Ridley Scott": 9, "ridley  scott": 1, "Ridley Scot": 1})
        >>> [(merge.name, merge.resolved, merge.how) for merge in found]
        [('Ridley Scot', 'Ridley Scott', 'distance'), ('ridley  scott', 'Ridley Scott', 'form')]
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be > 0 and <= 1, got {threshold}.")
    pairs = set(refused)
    forms: dict[str, list[str]] = defaultdict(list)
    for name in sorted({*counts, *known}):
        forms[folded(name)].append(name)
    right = set(known)
    chosen = {
        form: min(
            names, key=lambda name: (name not in right, -counts.get(name, 0), "," in name, name)
        )
        for form, names in forms.items()
    }
    merges = [
        Merge(name, chosen[form], "form", 1.0)
        for form, names in forms.items()
        for name in names
        if name != chosen[form] and name not in right and (name, chosen[form]) not in pairs
    ]
    total = {form: sum(counts.get(name, 0) for name in names) for form, names in forms.items()}
    kept: dict[tuple[str, str], list[str]] = defaultdict(list)
    for form in sorted(forms, key=lambda f: (chosen[f] not in right, -total[f], f)):
        others = kept[_block(form)]
        near = [(similarity(form, other, threshold), other) for other in others]
        near = [(close, other) for close, other in near if close >= threshold]
        if chosen[form] in right or not near:
            others.append(form)
            continue
        close, other = max(near, key=lambda pair: pair[0])
        spellings = [n for n in forms[form] if (n, chosen[other]) not in pairs]
        if len(spellings) < len(forms[form]):
            others.append(form)  # A person has told them apart.
            continue
        merges = [merge for merge in merges if merge.name not in spellings]
        merges += [Merge(name, chosen[other], "distance", close) for name in spellings]
    return sorted(merges)


def similarity(one: str, other: str, least: float = 0.0) -> float:
    """Similarity of two texts: 1 less the edit distance as a share of the longer one.

    Args:
        one: A text.
        other: Another one.
        least: What is less similar may count as 0, which is found sooner.

    Returns:
        0 to 1; 1 for equal texts.

    Example:
        >>> similarity("scott", "soctt"), similarity("scott", "scot")
        (0.8, 0.8)
    """
    longer = max(len(one), len(other))
    if one == other:
        return 1.0
    most = int((1 - least) * longer + 1e-9)
    if abs(len(one) - len(other)) > most:
        return 0.0
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        current = [i]
        for j, b in enumerate(other, 1):
            cost = min(row[j] + 1, current[j - 1] + 1, row[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        if min(current) > most:
            return 0.0
        before, row = row, current
    return 1 - row[-1] / longer


def _block(form: str) -> tuple[str, str]:
    """Initials and digits of a form: names that differ in one of them are told apart."""
    return "".join(word[0] for word in form.split()), "".join(re.findall(r"\d", form))
