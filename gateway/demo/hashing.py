"""Hash every file of the standard library, with every algorithm that Python guarantees.

A small installation is read several times, and the digests are compared, which also checks the
disk.
"""

from __future__ import annotations

import hashlib

from gateway import Job

from .installation import File, files
from .worker import start

BYTES_TO_HASH = 5_500_000_000
"""Bytes to hash in total: enough for some 10 s."""


def main() -> None:
    """Runs as a job."""
    with start(message="Looking for files") as job:
        found = files()
        algorithms = sorted(hashlib.algorithms_guaranteed)
        size = sum(file.size for file in found) or 1
        rounds = max(1, round(BYTES_TO_HASH / (size * len(algorithms))))
        share = 1 / (rounds * len(algorithms))
        digests: dict[tuple[str, str], bytes] = {}
        for turn in range(rounds):
            for algorithm in algorithms:
                name = algorithm.upper().replace("_", "-") + (", once more" if turn else "")
                with job.phase(name, share=share, total=len(found), unit="files"):
                    hash_all(found, algorithm, job=job, digests=digests)
        count = len(found) * len(algorithms)
        checked = ", all of them checked" if rounds > 1 else ""
        job.update(message=f"{count:,} digests of {size / 1e6:,.0f} MB{checked}")


def hash_all(
    found: list[File], algorithm: str, *, job: Job, digests: dict[tuple[str, str], bytes]
) -> None:
    """Hashes each file. A file that was hashed before must have the same digest."""
    shake = algorithm.startswith("shake")
    for file in job.track(found):
        job.update(message=file.name)
        with file.path.open("rb") as stream:
            done = hashlib.file_digest(stream, algorithm)
        digest = done.digest(32) if shake else done.digest()  # type: ignore[call-arg]  # SHAKE
        if digests.setdefault((algorithm, file.name), digest) != digest:
            raise ValueError(f"{file.name} has changed while it was read")


if __name__ == "__main__":
    main()
