"""Imports point down only (DESIGN §9), and the pure core stays pure."""

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
    {"storage"},
    {"errors", "limits", "endings", "pace", "job", "fold", "history", "protocol", "topic"},
    {"about", "tally", "metronome", "outbox", "hub", "broker", "auth", "session"},
    {"brokers"},
    {"connection", "canary", "clients", "upkeep", "tracing", "node"},
    {"transports"},
    {"page", "request", "answers", "metrics", "api", "settings", "settings_file"},
    {"server", "asgi"},
    {"cli", "demo"},
]
"""From the bottom up. A module may import from its own layer and those below. `worker`
stands beside all of them: it imports none but `storage`, and only the edge and
`integrations` import it."""

PURE = LAYERS[1]
MAY_BE_USED_BY_PURE = {
    "attrs", "msgspec", "wsproto", "__future__", "collections", "re", "struct", "typing",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def room(path: Path) -> str:
    """The first name below `gateway`: the module, or the folder it is in."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """What a module imports, function bodies included: (dotted name, whether it is ours)."""
    package = ("gateway", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *filter(None, [node.module])])
            names = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, name.partition(".")[0] == "gateway"


def our_rooms(path: Path) -> set[str]:
    return {
        name.split(".")[1]
        for name, ours in imports(path)
        if (ours and (ROOT / name.split(".")[1]).exists())
        or (ours and (ROOT / f"{name.split('.')[1]}.py").exists())
    }


def level(name: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if name in layer)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    if room(path) in ("worker", "integrations"):
        assert our_rooms(path) <= {"worker", "storage"}
        return
    own = level(room(path))
    for other in our_rooms(path) - {"worker"}:
        assert level(other) <= own, f"{path.name} imports {other}, which is above it"
    if "worker" in our_rooms(path):
        assert own == len(LAYERS) - 1


@pytest.mark.parametrize("name", sorted(PURE))
def test_the_core_knows_no_trio_clock_log_or_socket(name: str) -> None:
    foreign = {what.partition(".")[0] for what, ours in imports(ROOT / f"{name}.py") if not ours}
    assert foreign <= MAY_BE_USED_BY_PURE


def test_a_worker_loads_no_server() -> None:
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
    assert all(name.startswith("gateway.worker") for name in loaded if "gateway." in name)
