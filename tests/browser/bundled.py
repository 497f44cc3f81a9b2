"""An application's script as its bundler makes it, with the client's package as npm installs it;
and the code of the documentation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["MODULES", "WEB", "bundle", "node", "shown_in"]

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
MODULES = WEB / "node_modules"
DEADLINE = 60


def bundle(entry: Path, *options: str) -> str:
    """Returns one script with `entry` and all that it imports. Skips the test without npm's
    packages."""
    _need_packages()
    esbuild = MODULES / ".bin" / "esbuild"
    command = [str(esbuild), str(entry), "--bundle", "--jsx=automatic", *options]
    paths = os.pathsep.join([str(MODULES), str(entry.parent / "node_modules")])
    return _run(command, env=os.environ | {"NODE_PATH": paths})


def node(script: str, *options: str) -> str:
    """Runs a script where the client's development packages are, and returns what it writes. Skips
    the test without them."""
    _need_packages()
    return _run(["node", *options, "-"], script=script, cwd=WEB)


def shown_in(document: str, heading: str, language: str) -> str:
    """Returns the first block of code in this language below this heading."""
    text = (ROOT / document).read_text()
    _, found, below = text.partition(f"\n## {heading}\n")
    assert found, f"{document} has no heading {heading!r}"
    section = below.partition("\n## ")[0]
    block = re.search(rf"(?ms)^```{language}\n(.*?)^```", section)
    assert block, f"{document} shows no {language} below {heading!r}"
    return block[1]


def _need_packages() -> None:
    if not (MODULES / ".bin" / "esbuild").exists() or shutil.which("node") is None:
        pytest.skip("needs the client's development packages: cd web && npm install")


def _run(
    command: list[str],
    *,
    script: str = "",
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    ran = subprocess.run(
        command, input=script.encode(), env=env, cwd=cwd, capture_output=True, timeout=DEADLINE
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode()
