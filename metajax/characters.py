"""Characters that a terminal or a page obeys, written out so that it shows them."""

import re

__all__ = ["visible"]

# Controls, line and paragraph ends, overrides of the direction of text, halves of surrogate pairs.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BLANK = re.compile("[\t-\r]")


def visible(text: object, *, lines: bool = False) -> str:
    r"""Returns text in which control characters are written out.

    Titles, names and headers come from files. A terminal takes what follows an escape for a
    command, and an override of the direction of text makes it read as another.

    Args:
        text: The text.
        lines: True to keep tabs and line ends; otherwise each becomes a space.

    Example:
        >>> visible("a\x1b[31m\nb"), visible("a\nb", lines=True)
        ('a\\x1b[31m b', 'a\nb')
    """
    kept = str(text) if lines else _BLANK.sub(" ", str(text))
    return _OBEYED.sub(_written_out, kept)


def _written_out(found: re.Match[str]) -> str:
    character = found[0]
    return character if character in "\t\n" else character.encode("unicode_escape").decode()
