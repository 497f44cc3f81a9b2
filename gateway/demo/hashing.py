"""Hash every file of the standard library, with every algorithm that Python guarantees.

It is a group with a child for each algorithm, and can be stopped from the page. A small
installation is read several times, and the digests are compared, which also checks the disk.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

from gateway import Cancelled, Job

from .installation import File, files
from .worker import start

BYTES_TO_HASH = 5_500_000_000
"""Bytes to hash in total: enough for some 10 s."""
STOPS: dict[str, Any] = {"accepts": {"cancel"}, "interrupt": True}
"""What the group and each child accept."""


def main() -> None:
    """Run as a job."""
    algorithms = sorted(hashlib.algorithms_guaranteed)
    with suppress(Cancelled), start(children=len(algorithms), **STOPS) as job:
        found = files()
        size = sum(file.size for file in found) or 1
        rounds = max(1, round(BYTES_TO_HASH / (size * len(algorithms))))
        count = len(found) * len(algorithms)
        job.update(message=f"{count:,} digests of {size / 1e6:,.0f} MB")
        for algorithm in algorithms:
            digests: dict[str, bytes] = {}
            with job.child(algorithm, total=len(found) * rounds, unit="files", **STOPS) as child:
                for _ in range(rounds):
                    hash_all(found, algorithm, job=child, digests=digests)


def hash_all(found: list[File], algorithm: str, *, job: Job, digests: dict[str, bytes]) -> None:
    """Hash each file. A file that was hashed before must have the same digest."""
    shake = algorithm.startswith("shake")
    for file in found:
        job.advance()
        with file.path.open("rb") as stream:
            done = hashlib.file_digest(stream, algorithm)
        digest = done.digest(32) if shake else done.digest()  # type: ignore[call-arg]  # SHAKE
        if digests.setdefault(file.name, digest) != digest:
            raise ValueError(f"{file.name} has changed while it was read")


if __name__ == "__main__":
    main()
