"""Compress the standard library into archives, read them back, and report the smallest."""

from __future__ import annotations

import tarfile
from tempfile import TemporaryFile
from typing import IO

from gateway import Job

from .installation import File, modules
from .worker import start

FORMATS = (("gz", "gzip", 0.15), ("bz2", "bzip2", 0.12), ("xz", "xz", 0.7))
"""The suffix, the name, and the share of the time."""
CHECK_SHARE = 0.01
"""The share of the time for reading an archive back."""


def main() -> None:
    """Runs as a job."""
    with start(message="Looking for modules") as job:
        files = modules()
        before = sum(file.size for file in files)
        sizes: dict[str, int] = {}
        for suffix, name, share in FORMATS:
            # The file has no name, so nothing remains even if this process is killed.
            with TemporaryFile() as archive:
                with job.phase(f"Compress with {name}", share=share, total=before, unit="bytes"):
                    compress(files, archive, suffix, job=job)
                sizes[name] = archive.tell()
                with job.phase(f"Check {name}", share=CHECK_SHARE, total=before, unit="bytes"):
                    check(files, archive, job=job)
        best = min(sizes, key=lambda name: sizes[name])
        job.update(message=f"{best} wins: {before / 1e6:.1f} MB in {sizes[best] / 1e6:.1f} MB")


def compress(files: list[File], archive: IO[bytes], suffix: str, *, job: Job) -> None:
    """Writes all files into an archive."""
    # The modes are typed as literals, one overload each.
    mode = f"w:{suffix}"
    with tarfile.open(fileobj=archive, mode=mode) as tar:  # type: ignore[call-overload]  # see above
        for file in files:
            job.update(message=file.name)
            tar.add(file.path, arcname=file.name)
            job.advance(file.size)


def check(files: list[File], archive: IO[bytes], *, job: Job) -> None:
    """Reads the archive back and compares it with the files."""
    archive.seek(0)
    with tarfile.open(fileobj=archive, mode="r:*") as tar:
        for file, member in zip(files, tar, strict=True):
            job.update(message=file.name)
            content = tar.extractfile(member)
            if content is None or content.read() != file.path.read_bytes():
                raise ValueError(f"{file.name} differs from the original")
            job.advance(file.size)


if __name__ == "__main__":
    main()
