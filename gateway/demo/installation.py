"""What the demo works on: the files of the standard library. Reads the disk only."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["File", "files", "modules"]

FOREIGN = {"site-packages", "dist-packages"}
"""What others have installed there: it may be gigabytes."""


class File(NamedTuple):
    """One file of the installation."""

    path: Path
    name: str
    """Its path inside the library, as people write it."""
    size: int
    """Bytes."""


def files() -> list[File]:
    """Every file of the standard library, compiled ones and tests included, in order."""
    return sorted(_walk(Path(sysconfig.get_path("stdlib")).resolve()), key=lambda file: file.name)


def modules() -> list[File]:
    """Every Python source file of the standard library, in order."""
    return [file for file in files() if file.name.endswith(".py")]


def _walk(root: Path) -> Iterator[File]:
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if name not in FOREIGN]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                yield File(path, path.relative_to(root).as_posix(), path.stat().st_size)
