"""Pages from the templates of this folder."""

from importlib import resources
from typing import Any

from metajax.characters import visible

__all__ = ["rendered"]


def rendered(name: str, **values: Any) -> str:
    """Fills a template, with control characters written out.

    Args:
        name: Its file.
        **values: By the names in the template.

    Returns:
        The text of a self-contained HTML file, which runs no script.

    Raises:
        ImportError: If the extra `cli` is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError("the report needs jinja2: pip install 'metajax[cli]'.") from error
    folder = resources.files("metajax.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda file: folder.joinpath(file).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return visible(environment.get_template(name).render(**values), lines=True)
