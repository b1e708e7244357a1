"""The check that a built page loads nothing from elsewhere."""

import re
from pathlib import Path

__all__ = ["check", "remote"]

_LOADED = re.compile(
    r"<(?:script|img|iframe)\b[^>]*\bsrc=\"(?:https?:)?//[^\"]*\"|<link\b[^>]*\brel=\"(?:stylesheet|"
    r"preload|icon)\"[^>]*\bhref=\"(?:https?:)?//[^\"]*\"|@import\s+(?:url\()?[\"']?(?:https?:)?//"
)


def remote(text):
    """Lists the tags of a page that load something over the network."""
    return [found.group() for found in _LOADED.finditer(text)]


def check(app, exception):
    """Refuses a build with a page that needs the network to be read."""
    if exception is not None or app.builder.name != "html":
        return
    from sphinx.errors import ExtensionError  # Tests of `remote` do without Sphinx.

    for page in sorted(Path(app.outdir).rglob("*.html")):
        if found := remote(page.read_text(encoding="utf-8")):
            raise ExtensionError(f"{page.relative_to(app.outdir)} loads {found[0]}")
