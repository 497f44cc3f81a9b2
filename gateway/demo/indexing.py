"""Index the standard library by trigrams, as code search engines do.

The demo kills this worker in the middle, like the kernel does when memory runs out. The worker
cannot report the end of the job, so the job's lease expires.
"""

from __future__ import annotations

from .installation import modules
from .worker import start

LEASE = 2.0  # seconds; short, so that its expiry is soon visible


def main() -> None:
    """Runs as a job."""
    with start(message="Looking for modules", lease=LEASE) as job:
        index: dict[str, list[int]] = {}
        files = modules()
        job.update(unit="modules")
        for number, file in enumerate(job.track(files)):
            text = file.path.read_text(encoding="latin-1")
            for trigram in {text[at : at + 3] for at in range(len(text) - 2)}:
                index.setdefault(trigram, []).append(number)
            job.update(message=f"{file.name}; {len(index):,} trigrams so far")
        job.update(message=f"{len(index):,} trigrams in {len(files):,} modules")


if __name__ == "__main__":
    main()
