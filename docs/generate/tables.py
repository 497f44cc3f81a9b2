"""The tables: each number of `gateway/model/limits.py`, with the reason that stands beside it, and
each metric, with its help."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import trio

from gateway import MemoryBroker, Node
from gateway.http.metrics import Metrics
from gateway.model import constants, limits

__all__ = ["described", "fields", "metrics", "values"]

SOURCE = Path(limits.__file__)


def values() -> str:
    """The upper bounds in `constants.py`, with the comment beside each."""
    source = Path(constants.__file__).read_text()
    rows = ["| value | at most | reason |", "|---|---|---|"]
    for name, why in re.findall(r"^(MAX_\w+): Final = [^#{\n]+#(.+)$", source, re.MULTILINE):
        rows.append(f"| `{name}` | {_shown(getattr(constants, name))} | {why.strip()} |")
    for name, why in re.findall(r'^    "(\w+)": [\d_]+,  # (.+)$', source, re.MULTILINE):
        most = constants.MAX_TEXT[name]
        rows.append(f"| `{name}` | {_shown(most)} | characters: {why.strip()} |")
    return "\n".join(rows)


def fields() -> str:
    """The fields of `Limits`, with the docstring below each."""
    rows = ["| limit | default | what it bounds, what happens past it, and why |", "|---|---|---|"]
    for name, why in described():
        rows.append(f"| `{name}` | {_shown(getattr(limits.DEFAULT_LIMITS, name))} | {why} |")
    return "\n".join(rows)


def metrics() -> str:
    """What `/metrics` has of a node, in its order; not of the process and Python."""

    async def of_a_node() -> list[tuple[str, str, str]]:
        collected = Metrics(Node(MemoryBroker())).collect()
        return [(one.name, one.type, one.documentation) for one in collected]

    rows = ["| metric | type | what |", "|---|---|---|"]
    for name, type_, about in trio.run(of_a_node):
        end = "_total" if type_ == "counter" else ""
        rows.append(f"| `{name}{end}` | {type_} | {about} |")
    return "\n".join(rows)


def described() -> Iterator[tuple[str, str]]:
    """The name of each field, and its docstring, which only the source has."""
    tree = ast.parse(SOURCE.read_text())
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef))
    for above, below in pairwise(body):
        match above, below:
            case (
                ast.AnnAssign(target=ast.Name(name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, " ".join(text.split())


def _shown(value: float | tuple[float, float]) -> str:
    if isinstance(value, tuple):
        return "–".join(f"{part:g}" for part in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"
