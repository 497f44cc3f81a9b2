"""The files that the demo works on: the standard library. Only reads the disk."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["SAMPLE", "File", "files", "modules", "sample"]

SAMPLE = "PROGRESS_GATEWAY_DEMO_SAMPLE"
"""The variable by which `gateway demo --quick` tells its workers to use only each N-th file."""

FOREIGN = {"site-packages", "dist-packages"}
"""Folders with other packages, which may be gigabytes."""


class File(NamedTuple):
    """One file of the installation."""

    path: Path
    name: str
    """Its path inside the library."""
    size: int
    """Bytes."""


def sample() -> int:
    """Returns how many files there are for each one that is used."""
    return int(os.environ.get(SAMPLE, "1"))


def files() -> list[File]:
    """Returns every file of the standard library, including compiled ones and tests, in order; with
    `--quick`, every fifth."""
    found = _walk(Path(sysconfig.get_path("stdlib")).resolve())
    return sorted(found, key=lambda file: file.name)[:: sample()]


def modules() -> list[File]:
    """Returns every Python source file of the standard library, in order."""
    return [file for file in files() if file.name.endswith(".py")]


def _walk(root: Path) -> Iterator[File]:
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if name not in FOREIGN]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                yield File(path, path.relative_to(root).as_posix(), path.stat().st_size)
