"""Hash every file of the standard library, with every algorithm that Python guarantees.

It is a group with a child for each algorithm, and can be stopped from the page. A small
installation is read several times, and the digests are compared, which also checks the disk.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

from gateway import Cancelled, Job

from .installation import File, files, sample
from .worker import start

BYTES_TO_HASH = 5_500_000_000
"""Bytes to hash in total: enough for some 10 s."""
STOP_OPTIONS: dict[str, Any] = {"accepts": {"cancel"}, "interrupt": True}
"""The options of the group and of each child."""


def main() -> None:
    """Runs as a job."""
    algorithms = sorted(hashlib.algorithms_guaranteed)
    with suppress(Cancelled), start(children=len(algorithms), **STOP_OPTIONS) as job:
        library_files = files()
        size = sum(file.size for file in library_files) or 1
        rounds = max(1, round(BYTES_TO_HASH / sample() / (size * len(algorithms))))
        count = len(library_files) * len(algorithms)
        job.update(message=f"{count:,} digests of {size / 1e6:,.0f} MB")
        for algorithm in algorithms:
            digests: dict[str, bytes] = {}
            with job.child(
                algorithm, total=len(library_files) * rounds, unit="files", **STOP_OPTIONS
            ) as child:
                for _ in range(rounds):
                    hash_all(library_files, algorithm, job=child, digests=digests)


def hash_all(
    library_files: list[File], algorithm: str, *, job: Job, digests: dict[str, bytes]
) -> None:
    """Hashes each file. A file that was hashed before must have the same digest."""
    shake = algorithm.startswith("shake")
    for file in library_files:
        job.advance()
        with file.path.open("rb") as stream:
            hashed = hashlib.file_digest(stream, algorithm)
        digest = hashed.digest(32) if shake else hashed.digest()  # type: ignore[call-arg]  # SHAKE
        if digests.setdefault(file.name, digest) != digest:
            raise ValueError(f"{file.name} has changed while it was read")


if __name__ == "__main__":
    main()
