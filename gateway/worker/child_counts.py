"""The counts of forked children, in memory that they share with their parent.

A child reports its count as a part of the job. A child that is killed (`multiprocessing.Pool`
kills its processes at the end of its block) may not have reported it. Therefore it also stores the
count in shared memory, and its parent sends it before the end of the job. Pure except for that
memory; the process's lock guards it.
"""

from __future__ import annotations

from typing import Any

from ..model.constants import MAX_PARTS

__all__ = ["ChildCounts"]


class ChildCounts:
    """The counts of this process's forked children in one segment of a job."""

    __slots__ = ("_cells", "_prefix", "_reserved")

    def __init__(self, part: str | None) -> None:
        """Makes the memory. `part` is the name of this process's own part, if it has one."""
        import mmap  # only programs that fork need it

        self._prefix = "" if part is None else f"{part}."
        self._cells: Any = memoryview(mmap.mmap(-1, 8 * MAX_PARTS)).cast("d")
        self._reserved = 0

    def reserve(self) -> None:
        """Reserves a cell for the child that will be forked next."""
        self._reserved += 1

    def own_part(self) -> tuple[str, int | None]:
        """In the child: returns the name of its part, and its cell; None if all cells are
        reserved."""
        number = self._reserved
        return f"{self._prefix}{number}", number - 1 if number <= MAX_PARTS else None

    def store(self, cell: int, count: float) -> None:
        """In the child: stores the count for the parent."""
        self._cells[cell] = count

    def by_part(self) -> dict[str, int | float]:
        """In the parent: returns the count of each child that has one, by the name of its part."""
        counts: dict[str, int | float] = {}
        for cell in range(min(self._reserved, MAX_PARTS)):
            count = self._cells[cell]
            if count > 0:
                part = f"{self._prefix}{cell + 1}"
                counts[part] = int(count) if count.is_integer() else count
        return counts
