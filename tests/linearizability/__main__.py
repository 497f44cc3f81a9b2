"""`python -m tests.linearizability --minutes N`: a longer run, in rounds of half a minute."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from .history import check, run, written


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.linearizability")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    seed = options.seed
    while time.monotonic() < until:
        history = run(seconds=min(30.0, until - time.monotonic()), seed=seed)
        holds, output = check(history)
        sys.stdout.write(f"seed {seed}: {output}\n")
        sys.stdout.flush()
        if not holds:
            path = Path(tempfile.mkdtemp(prefix="history-")) / "history.jsonl"
            path.write_text(written(history), "utf-8")
            sys.stdout.write(f"the history is in {path}\n")
            return 1
        seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
