"""Count the words in every text file of the installation. It fails on purpose: its last file is the
interpreter itself, which is not a text.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from .installation import modules
from .worker import start

WORD = re.compile(r"[^\W\d_]{3,}")


def main() -> None:
    """Runs as a job."""
    with start(message="Looking for texts") as job:
        texts = [file.path for file in modules() if "test" not in file.name]
        texts.append(Path(sys.executable).resolve())
        words: Counter[str] = Counter()
        for path in job.track(texts):
            job.update(message=f"{path.name}; {len(words):,} words so far", unit="files")
            words.update(WORD.findall(path.read_text(encoding="utf-8").lower()))


if __name__ == "__main__":
    try:
        main()
    except UnicodeDecodeError as error:
        sys.exit(f"{error.encoding}: {error.reason}")  # the page shows all of it
