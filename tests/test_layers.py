"""Imports follow the folders: a folder imports from those above it, never from those below."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway

ROOT = Path(gateway.__file__).parent

LAYERS = [
    "observability",
    "model",
    "protocol",
    "brokers",
    "auth",
    "delivery",
    "node",
    "transports",
    "http",
    "config",
    "server",
    "asgi_app",
    "asgi",
    "worker",
    "integrations",
    "cli",
    "demo",
]
"""Folders (and three modules) of `gateway/`, in the order of docs/architecture.md."""

ONLY = {
    "worker": {
        f"model.{name}" for name in ("constants", "ids", "percent", "statuses", "traceparent")
    }
    | {f"brokers.redis.{name}" for name in ("keys", "url", "servers", "scripts")},
    "integrations": {"worker", "model.constants", "model.ids"},
}
"""A worker must load few modules: these folders import nothing else of the gateway."""

PURE = {"model", "protocol"}
PURE_MAY_USE = {
    "__future__", "attrs", "collections", "functools", "hashlib", "ipaddress", "json", "math",
    "msgspec", "operator", "re", "struct", "typing", "unicodedata",
    "wsproto",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def folder(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Yields the dotted names that a module imports, in function bodies too."""
    package = ("gateway", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{stem}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_folders(path: Path) -> None:
    own = folder(path)
    ours = {name.removeprefix("gateway.") for name in imports(path) if name.startswith("gateway.")}
    for name in ours:
        target_folder = name.partition(".")[0]
        if target_folder not in LAYERS or target_folder == own:
            continue  # the package's own API, or the same folder
        if own in ONLY:
            assert name.startswith(tuple(ONLY[own])), f"{own} must not import {name}"
        assert LAYERS.index(target_folder) <= LAYERS.index(own), f"{name} is below {own}"
    if own in PURE:
        foreign = {name.partition(".")[0] for name in imports(path)} - {"gateway"}
        assert foreign <= PURE_MAY_USE


def test_a_worker_imports_no_server_module() -> None:
    program = (
        "import sys; from gateway import Job; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}"
        " | {name for name in sys.modules if name.startswith('gateway.')}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split()
    server = {"trio", "hypercorn", "starlette", "redis", "asyncio", "wsproto", "click", "rich"}
    assert not server & set(loaded)
    assert "opentelemetry" not in loaded
    allowed = ("gateway.worker", "gateway.model")
    assert all(name.startswith(allowed) for name in loaded if "gateway." in name)
