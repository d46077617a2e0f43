"""Charts with hostile names: whatever an attribute is called, the chart is drawn and shows the name as text."""

from __future__ import annotations

import re
import warnings
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from expectations.report import charts
from expectations.report.page import render
from lake.contract.catalogue import Observation
from lake.contract.versions import Version
from tests.expectations.reporting import NOW, _subject

HOSTILE: Final = (
    r"$\frac{$",
    r"$\notacommand$",
    "$x$",
    "a$b",
    r"\$",
    "$",
    "$$",
    "",
    " ",
    "_hidden",
    "<script>",
    "]]>",
    "-->",
    'id="x',
    'href="#y',
    "url(#z)",
    "#0a0b0c",
    "font: 8px 'x",
    "&amp;",
    "&#0;",
    "a\nb",
    "a\tb",
    "\x00",
    "\x1b[31m",
    "\ufffe",
    "\u202egnp.exe",
    "\u2028",
    "\U0001f600",
    "\u0645\u0631\u062d\u0628\u0627",
    "{}",
    "%s%n",
    "{0.__class__}",
    "x" * 255,
    r"\N{DASH}",
)


def texts_of(svg: str) -> list[str]:
    """What the chart shows, by an XML parser, which refuses what is not well-formed."""
    parsed = ET.fromstring(svg)
    return ["".join(each.itertext()) for each in parsed.iter("{http://www.w3.org/2000/svg}text")]


def expected(name: str) -> str:
    return charts._short(name)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_every_chart_shows_any_name_as_text(name: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(?i:math).*")
        drawn = {
            "title": charts.over_time(name, [(NOW, 1.0)], "s", [(1.0, "warn")]),
            "unit": charts.over_time("t", [(NOW, 1.0), (NOW + 9, None)], name, []),
            "limit": charts.over_time("t", [(NOW, 1.0)], "s", [(1.0, name)], logarithmic=True),
            "label": charts.histogram("t", [name, "b"], [1, 2]),
            "timeline": charts.timeline("t", [(name, [(NOW - 9, "S")]), ("b", [(NOW - 5, "N")])], NOW),
            "word": charts.timeline("t", [("a", [(NOW - 9, name)])], NOW),
        }
    for what, svg in drawn.items():
        shown = texts_of(svg)
        if what == "title":
            assert ET.fromstring(svg).get("aria-label") == charts._visible(name)
        elif expected(name).strip():
            assert expected(name) in shown, (what, shown)
        assert not re.search(r'style="[^"]*#0[0-9a-f]0[0-9a-f]0[0-9a-f]', svg), (
            "a colour that follows no theme"
        )


def test_a_name_that_is_a_formula_is_not_set_as_one() -> None:
    assert "$x^2$" in texts_of(charts.timeline("t", [("$x^2$", [(NOW - 9, "S")])], NOW))


def test_a_report_of_hostile_attributes_is_written() -> None:
    import random

    schema = [
        Observation(name, "S", NOW - 9_000_000 * (place + 1), Version("v"))
        for place, name in enumerate(filter(None, HOSTILE))
    ]
    for start in range(0, len(schema), 10):
        page = render(
            [_subject("orders", random.Random(8), 0.0, "pass", schema=schema[start : start + 10])], NOW
        )
        assert page.count("<svg ") == 4
        assert "<script>" not in page
