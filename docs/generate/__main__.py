"""`python -m docs.generate`: write them."""

from __future__ import annotations

from . import PAGES, ROOT, written

for page in PAGES:
    (ROOT / page).write_text(written(page))
