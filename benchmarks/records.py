"""The records of results/*.json, and tables in Markdown."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["HERE", "markdown", "read"]

HERE = Path(__file__).parent


def read(name: str) -> list[dict[str, Any]]:
    return json.loads((HERE / "results" / f"{name}.json").read_text())


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
