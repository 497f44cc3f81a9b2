"""`gateway serve` with an unexpected error: `broken_node.py WHAT [options of serve]`.

WHAT is `raise` (the third batch of the feed makes the poller raise an unexpected error) or `end`
(the feed ends without an error).
"""

from __future__ import annotations

import sys
from itertools import count
from typing import Any
from unittest.mock import patch

from gateway.brokers.redis import cursor, poller
from gateway.cli.__main__ import main

_calls = count(1)
_advance: Any = cursor.Cursor.advance


def advance(self: Any, entries: Any) -> Any:
    if next(_calls) == 3:
        raise KeyError("unforeseen")
    return _advance(self, entries)


async def follow(self: Any, send: Any) -> None:
    await send.aclose()


if __name__ == "__main__":
    # `patch.object` raises an AttributeError if a name has changed.
    if sys.argv.pop(1) == "raise":
        patch.object(cursor.Cursor, "advance", advance).start()
    else:
        patch.object(poller.Poller, "follow", follow).start()
    main()
