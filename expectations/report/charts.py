"""The report's charts, by matplotlib, as SVG that stands inside the page and takes its colours.

matplotlib knows no light and dark, so it draws in a few stand-in colours, which become the page's CSS variables. Names
from the data are shown as they are: `$` begins no formula, and what rewrites the SVG touches its tags alone.
"""

from __future__ import annotations

import html
import io
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

INK: Final = "#010203"
DIM: Final = "#040506"
LINE: Final = "#070809"
ACCENT: Final = "#0a0b0c"
WARN: Final = "#0d0e0f"
FAIL: Final = "#101112"
_VARIABLES: Final = {
    INK: "var(--ink)",
    DIM: "var(--dim)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    WARN: "var(--warn)",
    FAIL: "var(--fail)",
}

_SHOWN: Final = 22
"""Characters of a name; the rest of the chart needs its room, too."""

_NOT_SHOWN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that XML forbids, that have no shape, or that turn the direction of the text."""

WIDTH_IN: Final = 4.6
HEIGHT_IN: Final = 2.3


def over_time(
    title: str,
    points: Sequence[tuple[int, float | None]],
    unit: str,
    limits: Sequence[tuple[float, str]],
    *,
    logarithmic: bool = False,
) -> str:
    """A line over time.

    Args:
        title: what it shows, for those who cannot see it.
        points: (epoch milliseconds, value); None where it is not known.
        unit: what the values are.
        limits: (value, "warn" or "fail"): lines to compare with.
        logarithmic: whether small values matter as much as large ones; 0 has its place at the bottom.
    """
    figure, axes = _figure()
    known = [(datetime.fromtimestamp(at / 1000, UTC), value) for at, value in points if value is not None]
    times, values = [at for at, _ in known], [value for _, value in known]
    axes.plot(times, values, color=ACCENT, marker="o", markersize=3.5, linewidth=1.5, zorder=3)
    for value, kind in limits:
        colour = WARN if kind == "warn" else FAIL
        axes.axhline(value, color=colour, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            _short(kind), (0, value), xycoords=("axes fraction", "data"), xytext=(3, 2), textcoords="offset points",
            fontsize=8, color=colour, parse_math=False,
        )  # fmt: skip
    tops = [*values, *(value for value, _ in limits)]
    if logarithmic:
        smallest = min((value for value in tops if value > 0), default=1.0)
        axes.set_yscale("symlog", linthresh=smallest / 2, linscale=0.4)
        axes.set_yticks(ticks := _ticks(smallest, max(tops, default=1.0)), [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(-smallest / 8, 2 * max(tops, default=1.0))
    axes.set_ylabel(_short(unit), color=DIM, fontsize=8, parse_math=False)
    _date_axis(axes, times)
    return _svg(figure, title)


def histogram(title: str, labels: Sequence[str], counts: Sequence[int]) -> str:
    """Bars, one for each label.

    Args:
        title: what it shows, for those who cannot see it.
        labels: the bars' names.
        counts: their heights.
    """
    figure, axes = _figure()
    axes.bar(range(len(counts)), counts, color=ACCENT, width=0.8)
    shown = [_short(label) for label in labels]
    axes.set_xticks(range(len(labels)), shown, rotation=40, ha="right", parse_math=False)
    axes.set_ylabel("changes", color=DIM, fontsize=8)
    return _svg(figure, title)


def timeline(title: str, rows: Sequence[tuple[str, Sequence[tuple[int, str]]]], until: int) -> str:
    """What came when: a line for each name, with a mark and a word for each event.

    Args:
        title: what it shows, for those who cannot see it.
        rows: (name, [(epoch milliseconds, word)]).
        until: epoch milliseconds of the right end.
    """
    figure, axes = _figure(max(1.2, 0.24 * len(rows) + 0.6))
    end = datetime.fromtimestamp(until / 1000, UTC)
    times = [end]
    for place, (_, events) in enumerate(rows):
        moments = [datetime.fromtimestamp(at / 1000, UTC) for at, _ in events]
        times += moments
        axes.plot([moments[0], end], [place, place], color=LINE, linewidth=4, solid_capstyle="butt")
        axes.plot(moments, [place] * len(moments), "o", color=ACCENT, markersize=5)
        for moment, (_, word) in zip(moments, events, strict=True):
            axes.annotate(
                _short(word), (moment, place), xytext=(4, 3), textcoords="offset points", fontsize=7, color=DIM,
                parse_math=False,
            )  # fmt: skip
    axes.set_yticks(range(len(rows)), [_short(name) for name, _ in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.8)
    axes.grid(visible=False, axis="y")
    _date_axis(axes, times)
    return _svg(figure, title)


def _ticks(smallest: float, largest: float) -> list[float]:
    """0 and some powers of ten."""
    first, last = math.ceil(math.log10(smallest)), math.ceil(math.log10(largest))
    step = max(1, math.ceil((last - first + 1) / 5))
    return [0.0, *(10.0**power for power in range(first, last + 1, step))]


def _short(name: str) -> str:
    shown = _visible(name)
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"


def _visible(name: str) -> str:
    """A name on one line, with the code of each character that cannot be shown."""
    return "".join(
        f"\\u{ord(character):04x}" if unicodedata.category(character) in _NOT_SHOWN else character
        for character in name
    )


def _figure(height: float = HEIGHT_IN) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(LINE)
    axes.tick_params(colors=DIM, labelsize=8, length=0)
    axes.grid(visible=True, axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _date_axis(axes: Any, times: Sequence[datetime]) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    if not times:
        axes.set_xticks([])
        return
    locator = AutoDateLocator(minticks=2, maxticks=5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set(color=DIM, fontsize=8)


def _svg(figure: Any, title: str) -> str:
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": title}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*" height="[^"]*"|(<svg[^>]*?) height="[^"]*"', r"\1\2", text, count=1
    )
    text = _in_tags(text, lambda tag: _ours(tag, re.sub(r"\W", "", title)))
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(_visible(title))}" ', 1)


def _in_tags(text: str, change: Callable[[str], str]) -> str:
    """The SVG with its tags changed; matplotlib escapes `<` and `>` in what stands between and within them."""
    return re.sub(r"<[^>]*>", lambda tag: change(tag[0]), text)


def _ours(tag: str, prefix: str) -> str:
    """A tag with the page's font, colours and ids."""
    tag = re.sub(r"font: ([0-9.]+)px '[^;\"]*", r"font: \1px system-ui, sans-serif", tag)
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, variable)
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", tag)
