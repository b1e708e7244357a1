"""Pages of the service, each a single file that loads nothing else.

Every text of the service is set as text and never as markup, and the policy that goes with a page
lets a browser run its own script alone, by its hash.
"""

import base64
import functools
import hashlib
import re
from importlib import resources
from typing import NamedTuple

__all__ = ["PAGES", "Page", "page"]

PAGES = {"/": "people.html", "/operator": "operator.html"}
"""Files by path."""


class Page(NamedTuple):
    """A page."""

    content: bytes
    """HTML in UTF-8."""
    policy: str
    """Its Content-Security-Policy."""


@functools.cache
def page(name: str) -> Page:
    """Reads a page.

    Args:
        name: One of the files of `PAGES`.

    Example:
        >>> found = page("people.html")
        >>> b"innerHTML" in found.content, "script-src 'sha256-" in found.policy
        (False, True)
    """
    text = resources.files("metajax.serving.pages").joinpath(name).read_text("utf-8")
    hashes = {
        tag: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"
            for part in re.findall(f"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        )
        for tag in ("script", "style")
    }
    policy = (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return Page(text.encode(), policy)
