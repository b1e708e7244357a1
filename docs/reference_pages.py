"""Pages of the reference that are written from the code: names, commands, settings, the service.

`write(folder)` writes them before Sphinx reads anything; none of them is in the repository.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import json
import pkgutil
import re
import textwrap
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import metajax

__all__ = [
    "Entry",
    "api_page",
    "as_restructured_text",
    "command_pages",
    "entries",
    "method_pages",
    "openapi_page",
    "parts",
    "settings_table",
    "write",
]

_PACKAGE = Path(metajax.__file__).parent


class Entry(NamedTuple):
    """A public name, where it is documented."""

    module: str
    """The module that exports it, the one nearest to the top."""
    name: str
    """Its name there."""
    kind: str
    """function, class or data."""
    text: str
    """The docstring; empty where there is none."""


def modules() -> list[str]:
    """Lists the package's modules, but the programs that run on import."""
    found = pkgutil.walk_packages([str(_PACKAGE)], "metajax.")
    return ["metajax", *(info.name for info in found if not info.name.endswith("__main__"))]


@functools.cache
def entries() -> list[Entry]:
    """Lists every name of every `__all__` once, under the module nearest to the top."""
    homes: dict[Any, tuple[str, str, Any]] = {}
    for module_name in sorted(modules()[1:], key=lambda name: (name.count("."), name)):
        module = importlib.import_module(module_name)
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.ismodule(found):
                continue
            homes.setdefault(_identity(module_name, name, found), (module_name, name, found))
    return sorted(_entry(*home) for home in homes.values())


def _identity(module: str, name: str, found: Any) -> Any:
    if _kind(found) != "data":
        return found.__module__, found.__qualname__
    # A value has no name of its own: the same name in a part of the package is the same value.
    return module.split(".")[1], name


def _kind(found: Any) -> str:
    """Tells functions and classes of the package from values and aliases of types."""
    if not str(getattr(found, "__module__", "")).startswith("metajax"):
        return "data"
    if inspect.isclass(found):
        return "class"
    return "function" if inspect.isroutine(inspect.unwrap(found)) else "data"


def _entry(module: str, name: str, found: Any) -> Entry:
    kind = _kind(found)
    if kind == "data":
        return Entry(module, name, kind, _text_of_value(module, name, found))
    return Entry(module, name, kind, inspect.getdoc(found) or "")


def _text_of_value(module: str, name: str, found: Any) -> str:
    """Documentation of a value: what stands below its assignment, or what it is."""
    from metajax import registry
    from metajax.baselines import Baseline

    if text := _text_below(module, name):
        return text
    if isinstance(found, Baseline):
        return f"The closed form `{found.name}`. {registry.description_of(found.name)}"
    if isinstance(found, tuple) and name in ("methods", "baselines"):
        return f"What the registry finds here: {', '.join(f'`{m.name}`' for m in found)}."
    if typing.get_origin(found) is typing.Literal:
        return f"One of {', '.join(f'`{value!r}`' for value in typing.get_args(found))}."
    return ""


def _text_below(module: str, name: str) -> str:
    part = ".".join(module.split(".")[:2])
    for candidate in [module, *(m for m in modules() if m.startswith(f"{part}."))]:
        spec = importlib.util.find_spec(candidate)
        body = _parsed(spec.origin).body if spec and spec.origin else []
        for node, after in zip(body, [*body[1:], None], strict=True):
            target = getattr(node, "target", None) or (getattr(node, "targets", None) or [None])[0]
            if getattr(target, "id", None) != name:
                continue
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return inspect.cleandoc(str(after.value.value))
    return ""


_TREES: dict[str, ast.Module] = {}


def _parsed(path: str) -> ast.Module:
    if path not in _TREES:
        _TREES[path] = ast.parse(Path(path).read_text(encoding="utf-8"))
    return _TREES[path]


# Docstrings are written in plain text with backticks; reStructuredText reads more into it.
_CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)
_SECTION = re.compile(r"^(Args|Args and \w+|Returns|Raises|Yields|Example|References|Note)s?:\s*$")


def as_restructured_text(app, what, name, obj, options, lines) -> None:
    """Turns the lines of a docstring into reStructuredText, in place; a hook of autodoc."""
    del app, name, obj, options
    # Napoleon takes what precedes a colon in the first line of an attribute for its type.
    first = [""] if what in ("attribute", "data", "property") else []
    lines[:] = [*first, *restructured(lines)]


def restructured(lines: list[str], links: Mapping[str, str] | None = None) -> list[str]:
    """Turns the lines of a docstring into reStructuredText.

    Single backticks become links where they hold a public name that only one thing has, and code
    elsewhere; marks outside of them are escaped; indented blocks of the top level, and what
    follows a prompt up to the next empty line, stay as they are.

    Args:
        lines: The docstring, without its indentation.
        links: Full names by what stands in backticks; None: those of the package.
    """
    links = _links() if links is None else links
    found: list[str] = []
    prose: list[str] = []
    section = literal = prompt = False

    def flush() -> None:
        found.extend(_linked("\n".join(prose), links).split("\n") if prose else [])
        prose.clear()

    for number, line in enumerate(lines):
        text, indented = line.strip(), line.startswith("    ")
        if text and not indented:
            section, literal = bool(_SECTION.match(line)), False
        prompt = bool(text) and (prompt or text.startswith(">>>"))
        blank_before = not (lines[number - 1].strip() if number else "")
        if indented and text and blank_before and not (section or literal or prompt):
            flush()
            found += ["::", ""]
            literal = True
        if literal or prompt:
            flush()
            found.append(line)
        else:
            prose.append(line)
    flush()
    return found


def _linked(text: str, links: Mapping[str, str]) -> str:
    parts = _CODE.split(text)
    for n, part in enumerate(parts):
        if n % 2 == 0:
            part = re.sub(r"([*|])", r"\\\1", part)
            part = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", part)
            # A letter right behind code, as in a plural, would keep it from ending.
            parts[n] = "\\ " + part if n and part[:1].isalnum() else part
            continue
        name = part.strip("`")
        parts[n] = f":py:obj:`{name} <{links[name]}>`" if name in links else f"``{name}``"
    return "".join(parts)


@functools.cache
def _links() -> dict[str, str]:
    """Full names of public names, by every ending of them that is theirs alone."""
    ends: dict[str, set[str]] = {}
    for entry in entries():
        if entry.kind == "data":
            continue
        words = f"{entry.module}.{entry.name}".split(".")
        for n in range(len(words)):
            ends.setdefault(".".join(words[n:]), set()).add(".".join(words))
    return {end: full.pop() for end, full in ends.items() if len(full) == 1}


def parts() -> list[str]:
    """Lists the files and folders at the top of the package, which have a page each."""
    return list(dict.fromkeys(entry.module.split(".")[1] for entry in entries()))


def api_page(part: str, found: list[Entry]) -> str:
    """Writes the page of a file or folder at the top of the package."""
    lines = [f"# `metajax.{part}`", ""]
    own = [entry for entry in found if entry.module.split(".")[1] == part]
    for module in sorted({entry.module for entry in own} | {f"metajax.{part}"}):
        doc = inspect.getdoc(importlib.import_module(module)) or ""
        if module != f"metajax.{part}":
            lines += [f"## `{module}`", ""]
        lines += [_as_markdown(doc), ""]
        for entry in own:
            if entry.module == module:
                lines += ["```{eval-rst}", *_directive(entry), "```", ""]
    return "\n".join(lines)


def _as_markdown(text: str) -> str:
    """Module docstrings are Markdown but for doctests and headings, which must not split pages."""
    return re.sub(r"^(#+) ", r"\\\1 ", text, flags=re.MULTILINE)


def _directive(entry: Entry) -> Iterator[str]:
    full = f"{entry.module}.{entry.name}"
    if entry.kind == "data":
        yield f".. py:data:: {full}"
        yield ""
        yield from (f"   {line}".rstrip() for line in restructured(entry.text.splitlines()))
        return
    yield f".. auto{entry.kind}:: {full}"
    if entry.kind == "class":
        yield "   :members:"


def settings_table(kind: Any) -> str:
    """Writes the fields of a dataclass of settings: default, range and meaning."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base is object:
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        body = tree.body[0].body  # type: ignore[attr-defined]
        for node, after in zip(body, [*body[1:], None], strict=True):
            name = getattr(getattr(node, "target", None), "id", None)
            if name and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                texts[name] = " ".join(str(after.value.value).split())
    rows = []
    for field in dataclasses.fields(kind):
        if field.name == "options":
            continue
        limits = field.metadata
        legal = [
            f"{sign} {limits[key]:g}"
            for key, sign in (("above", ">"), ("least", "≥"), ("most", "≤"))
            if limits.get(key) is not None
        ]
        kind_name = getattr(field.type, "__name__", str(field.type)).replace("typing.", "")
        if typing.get_origin(field.type) is typing.Literal:
            kind_name = ", ".join(map(str, typing.get_args(field.type)))
        kind_name = kind_name.replace("|", "or")
        default = "" if field.default is dataclasses.MISSING else repr(field.default)
        meaning = texts.get(field.name, "").replace("|", "\\|").replace("*", "\\*")
        rows.append(
            f"| `{field.name}` | {kind_name} | `{default}` | {', '.join(legal)} | {meaning} |"
        )
    return "\n".join(
        ["| setting | type | default | range | meaning |", "| --- | --- | --- | --- | --- |", *rows]
    )


def method_pages() -> dict[str, str]:
    """Writes the pages of settings: those that all methods share, and each method's own."""
    from metajax import registry
    from metajax.data.reading import Reading
    from metajax.methods import Settings

    lines = [
        "# Settings of every method",
        "",
        "On the command line a setting is `--updates 200`, one of a method's own options "
        "`--maml.inner-rate 0.1`; in TOML `updates = 200`, and `inner_rate = 0.1` in a table "
        "`[maml]`; in the environment `METAJAX_UPDATES` and `METAJAX_MAML_INNER_RATE`; in Python "
        '`mj.settings_for("maml", updates=200, inner_rate=0.1)`. The command line comes before '
        "the environment, and that before the file.",
        "",
        "## Trained methods",
        "",
    ]
    for method in registry.all_methods():
        about = registry.description_of(method.name)
        lines += [f"### {method.name}", "", about, ""]
        facts = []
        if method.two_domains:
            facts.append("It needs a source and a target domain.")
        if method.needs_ratings:
            facts.append("It needs ratings.")
        if method.most_items:
            facts.append(f"It takes at most {method.most_items:,} items.")
        if method.settings:
            changed = ", ".join(f"`{k} = {v!r}`" for k, v in sorted(method.settings.items()))
            facts.append(f"Defaults of its own: {changed}.")
        tried = [c for c in method.grid if c]
        if tried:
            shown = "; ".join(", ".join(f"`{k} = {v!r}`" for k, v in c.items()) for c in tried)
            facts.append(f"Tuning also tries {shown}.")
        if facts:
            lines += [" ".join(facts), ""]
        if dataclasses.fields(method.options):
            lines += [settings_table(method.options), ""]
    lines += ["## Closed forms", ""]
    for baseline in registry.all_baselines():
        lines += [f"### {baseline.name}", "", registry.description_of(baseline.name), ""]
        needs = "It needs a source and a target domain. " if baseline.two_domains else ""
        lines += [f"{needs}It predicts by {baseline.predicts}.", ""]
        tried = [c for c in baseline.grid if c]
        if tried:
            shown = "; ".join(", ".join(f"`{k} = {v!r}`" for k, v in c.items()) for c in tried)
            lines += [f"Settings that tuning tries: {shown}.", ""]
    lines += ["## Shared by all trained methods", "", settings_table(Settings), ""]
    reading = ["# Options of reading data", "", settings_table(Reading), ""]
    return {"settings": "\n".join(lines), "reading": "\n".join(reading)}


def command_pages() -> dict[str, str]:
    """Writes a page of each command from its signature and docstring."""
    from metajax.cli.app import command_line

    app = command_line()
    pages = {}
    for name in app:
        if name.startswith("-"):
            continue
        one = app[name]
        text = one.generate_docs(output_format="markdown", usage_name=f"metajax {name}")
        pages[name] = text
    return pages


def openapi_page() -> tuple[str, str]:
    """Writes the page of the HTTP interface, and the OpenAPI document itself."""
    from metajax.serving.app import document

    found = document()
    lines = [
        "# HTTP interface",
        "",
        "Written from the OpenAPI document, which a running service returns at "
        "`/v1/openapi.json`; {download}`here is a copy <openapi.json>`. Every error is one line "
        'of JSON, `{"error": "..."}`.',
        "",
    ]
    for path, methods in found["paths"].items():
        for method, one in methods.items():
            lines += [f"## {method.upper()} `{path}`", "", one["summary"], ""]
            if one["parameters"]:
                lines += ["| parameter | in | type | meaning |", "| --- | --- | --- | --- |"]
                for p in one["parameters"]:
                    about = p["schema"].get("description", "")
                    lines.append(f"| `{p['name']}` | {p['in']} | {_type(p['schema'])} | {about} |")
                lines.append("")
            if body := one.get("requestBody"):
                lines += [f"Body: {_type(_schema(body))}.", ""]
            lines += [f"Answer: {_type(_schema(one['responses']['200']))}.", ""]
            if one["security"] == []:
                lines += ["It needs no key.", ""]
    lines += ["## Types", ""]
    for name, schema in sorted(found["components"]["schemas"].items()):
        lines += [f"### {name}", "", schema.get("description", ""), ""]
        if properties := schema.get("properties"):
            needed = schema.get("required", [])
            lines += ["| field | type | |", "| --- | --- | --- |"]
            for field, of in properties.items():
                lines.append(
                    f"| `{field}` | {_type(of)} | {'required' if field in needed else ''} |"
                )
            lines.append("")
    statuses = next(iter(next(iter(found["paths"].values())).values()))["responses"]
    lines += ["## Statuses", "", "| status | meaning |", "| --- | --- |"]
    lines += [f"| {status} | {of['description']} |" for status, of in sorted(statuses.items())]
    return "\n".join([*lines, ""]), json.dumps(found, indent=1) + "\n"


def _schema(holder: dict[str, Any]) -> dict[str, Any]:
    return next(iter(holder["content"].values()))["schema"]


def _type(schema: dict[str, Any]) -> str:
    """Names a JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        items = schema.get("items") or {}
        of = _type(items) if isinstance(items, dict) else "value"
        return f"list of {of}"
    limits = [
        f"{sign} {schema[key]:g}"
        for key, sign in (("minimum", "≥"), ("maximum", "≤"))
        if key in schema
    ]
    if "maxLength" in schema:
        limits.append(f"at most {schema['maxLength']} characters")
    return ", ".join([str(schema.get("type", "any")), *limits])


def write(folder: Path) -> None:
    """Writes all pages of the reference that are generated."""
    found, tops = entries(), parts()
    pages = {f"api/{part}": api_page(part, found) for part in tops}
    rows = [f"| {{doc}}`{part} <{part}>` | {_first_line(f'metajax.{part}')} |" for part in tops]
    about = (
        "`import metajax as mj` offers the names of the {doc}`public face <../public_face>`, and "
        "the modules below. What a module exports is in its `__all__`; a test holds that every "
        "such name is documented here."
    )
    table = ["| module | what it holds |", "| --- | --- |", *rows]
    pages["api/index"] = "\n".join(
        ["# API by module", "", about, "", *table, "", *_toctree(tops), ""]
    )
    pages["public_face"] = _public_face(found)
    commands = command_pages()
    pages |= {f"commands/{name}": text for name, text in commands.items()}
    listed = [f"- {{doc}}`metajax {name} <{name}>`" for name in commands]
    pages["commands/index"] = "\n".join(
        ["# Commands", "", *listed, "", *_toctree(list(commands)), ""]
    )
    pages |= method_pages()
    pages["http"], document = openapi_page()
    generated = {f"{name}.md": text for name, text in pages.items()} | {"openapi.json": document}
    for name, text in generated.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # An unchanged page keeps its time, and Sphinx does not read it again.
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _toctree(pages: list[str]) -> list[str]:
    return ["```{toctree}", ":hidden:", "", *pages, "```"]


def _public_face(found: list[Entry]) -> str:
    """Lists the names of the package itself, with links to where they are documented."""
    homes = {}
    for entry in found:
        value = getattr(importlib.import_module(entry.module), entry.name)
        homes[entry.name, id(value)] = entry
    lines = ["# The public face", "", "Names of `metajax` itself, loaded when first used.", ""]
    for name in metajax.__all__:
        value = getattr(metajax, name)
        if inspect.ismodule(value):
            lines.append(f"- {{doc}}`{name} <api/{name}>`: {_first_line(value.__name__)}")
        elif (name, id(value)) in homes:
            entry = homes[name, id(value)]
            first = entry.text.partition("\n")[0]
            lines.append(f"- {{py:obj}}`{name} <{entry.module}.{name}>`: {first}")
        else:
            lines.append(f"- `{name}`: version of the package.")
    return "\n".join([*lines, ""])


def _first_line(module: str) -> str:
    text = inspect.getdoc(importlib.import_module(module)) or ""
    return text.partition("\n")[0].replace("|", "\\|")
