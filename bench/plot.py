"""The plot that the README shows: bars, as one SVG that follows the reader's colour scheme.
Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from attrs import frozen

__all__ = ["Bar", "plot"]

WIDTH, LABELS, FIGURES, ROW = 720, 200, 90, 26

_STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 }
  .ours { fill: #1a7f5a } .other { fill: #8c959f }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .ours { fill: #3fb98a } .other { fill: #6e7681 }
  }
"""


@frozen
class Bar:
    """The value of one server."""

    name: str
    value: float
    ours: bool = False


def plot(title: str, bars: Sequence[Bar]) -> str:
    """Returns an SVG of `bars`, in their order."""
    longest = max((bar.value for bar in bars), default=0) or 1
    available = WIDTH - LABELS - FIGURES
    height = ROW * (len(bars) + 1) + 12
    rows = [f'<text class="title" x="0" y="18">{escape(title)}</text>']
    for number, bar in enumerate(bars, start=1):
        y = ROW * number + 6
        width = max(available * bar.value / longest, 1)
        kind = "ours" if bar.ours else "other"
        rows += (
            f'<text x="0" y="{y + 15}">{escape(bar.name)}</text>',
            f'<rect class="{kind}" x="{LABELS}" y="{y + 2}" width="{width:.1f}" height="16"/>',
            f'<text x="{LABELS + width + 8:.1f}" y="{y + 15}">{bar.value:,.0f}</text>',
        )
    body = "\n  ".join(rows)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n'
        f"  <style>{_STYLE}</style>\n  {body}\n</svg>\n"
    )
