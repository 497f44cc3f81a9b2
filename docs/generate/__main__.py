"""`python -m docs.generate` writes the generated files; with `--check` it names those that are
out of date, and fails if there are any."""

from __future__ import annotations

import sys

from . import PAGES, ROOT, written

outdated = [page for page in PAGES if (ROOT / page).read_text() != written(page)]
if "--check" in sys.argv[1:]:
    for page in outdated:
        print(f"{page} is out of date: run python -m docs.generate", file=sys.stderr)  # noqa: T201 - a command line's answer
    sys.exit(bool(outdated))
for page in outdated:
    (ROOT / page).write_text(written(page))
