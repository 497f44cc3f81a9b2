"""`gateway serve` with an unexpected error: `broken_node.py WHAT [options of serve]`.

WHAT is `raise` (the third batch of the feed makes the poller raise an unexpected error) or `end`
(the feed ends without an error).
"""

from __future__ import annotations

import sys
from itertools import count
from typing import Any

from gateway.brokers.redis import cursor, poller
from gateway.cli.__main__ import main

_calls = count(1)
_take: Any = cursor.Cursor.advance


def take(self: Any, entries: Any) -> Any:
    if next(_calls) == 3:
        raise KeyError("unforeseen")
    return _take(self, entries)


async def follow(self: Any, send: Any) -> None:
    await send.aclose()


if __name__ == "__main__":
    patched: Any = cursor.Cursor, poller.Poller
    if sys.argv.pop(1) == "raise":
        patched[0].take = take
    else:
        patched[1].follow = follow
    main()
