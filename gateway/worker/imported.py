"""Objects of other libraries that the program may have imported. A worker imports none of them."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["already_imported"]


def already_imported(module: str, *names: str) -> tuple[Any, ...] | None:
    """Returns the objects that `module` has under `names`; None unless it has all of them.

    Another thread may be importing the module at this moment. Then it is in `sys.modules` with
    only some of its names, and this thread does not use it yet.
    """
    loaded = sys.modules.get(module)
    objects = tuple(getattr(loaded, name, None) for name in names)
    return None if None in objects else objects
