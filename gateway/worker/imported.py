"""Access to other libraries that the program may have imported. A worker imports none of them."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["imported"]


def imported(module: str, *names: str) -> tuple[Any, ...] | None:
    """The objects that `module` has under `names`; None unless it has them all.

    Another thread may be importing the module at this moment. Then it is in `sys.modules` with
    only some of its names, and nothing in this thread can be in use of it yet.
    """
    known = sys.modules.get(module)
    found = tuple(getattr(known, name, None) for name in names)
    return None if None in found else found
