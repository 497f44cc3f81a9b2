"""The plot shows the measured figures."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.plot import Bar, plot


def test_bars_are_proportional_and_the_longest_fills_the_width() -> None:
    svg = plot("deliveries/s", [Bar("ours", 3_000_000, ours=True), Bar("them", 750_000)])
    root = ElementTree.fromstring(svg)  # noqa: S314 - written by our own code
    names = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert names == ["deliveries/s", "ours", "3,000,000", "them", "750,000"]
    rects = [e for e in root.iter() if e.tag.endswith("rect") and e.get("class") != "ground"]
    ours, them = (float(rect.attrib["width"]) for rect in rects)
    assert them / ours == pytest.approx(0.25, abs=0.01)


def test_names_are_escaped() -> None:
    assert "&lt;b&gt;" in plot("a", [Bar("<b>", 1)])
