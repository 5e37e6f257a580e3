"""A picture of the results as SVG that is readable on a light and on a dark page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from bench import streams, traffic
from bench.contenders import BARE, DIRECT, HAPROXY, NGINX, OURS
from bench.grid import number
from bench.measure import Result

_WIDTH, _LABEL, _VALUE, _GAP = 840, 130, 60, 40
_BAR, _STEP, _TITLE = 14, 22, 48
_HALF = (_WIDTH - _GAP) // 2
# Colours that are told apart on both grounds; a page that is dark has lighter text.
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 13px }
.note { fill: #57606a; font-size: 11px }
.ours { fill: #2f6fde } .other { fill: #8c959f }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .note { fill: #9198a1 }
  .ours { fill: #6ea8fe } .other { fill: #6e7681 }
}
"""
_SWIFT = (DIRECT, NGINX, HAPROXY)
"""Beside their calls a second, all others would be as long as a dot."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars under a title: a contender and its number."""

    title: str
    note: str
    bars: tuple[tuple[str, float], ...]

    @property
    def height(self) -> int:
        """In pixels."""
        return _TITLE + _STEP * len(self.bars)


_PANELS = (
    ("Processor time a call", f"1 KB, connections kept; {BARE} = 1", traffic.KEPT, True),
    ("Processor time a call", f"1 KB, a connection a call; {BARE} = 1", traffic.ANEW, True),
    ("Calls a second", "1 KB, 64 connections", f"{traffic.MANY}, calls a second", False),
    ("Until a stream's first event", "milliseconds", streams.FIRST, False),
)


def panels(results: Sequence[Result]) -> list[Panel]:
    """What there is to be drawn."""
    found = []
    for title, note, row, relative in _PANELS:
        of_row = [one for one in results if one.case.row == row]
        told = [(one.case.column, one.ratio if relative else one.median) for one in of_row]
        hidden = (traffic.LOOP, *(() if relative or row == streams.FIRST else _SWIFT))
        bars = tuple((name, value) for name, value in told if value and name not in hidden)
        if bars:
            found.append(Panel(title, note, bars))
    return found


def svg(results: Sequence[Result], note: str) -> str:
    """The picture; `note` is its last line."""
    drawn: list[str] = []
    y = 0
    found = panels(results)
    for first in range(0, len(found), 2):
        row = found[first : first + 2]
        for column, panel in enumerate(row):
            drawn += _panel(panel, column * (_HALF + _GAP), y)
        y += max(panel.height for panel in row) + _GAP // 2
    height = y + _STEP
    label = "; ".join(f"{panel.title}, {panel.note}" for panel in found)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'width="{_WIDTH}" height="{height}" role="img" aria-label="{escape(label)}">',
            f"<style>{_STYLE}</style>",
            *drawn,
            f'<text class="note" x="0" y="{height - 8}">{escape(note)}</text>',
            "</svg>\n",
        ]
    )


def _panel(panel: Panel, x: int, y: int) -> Iterator[str]:
    most = max(value for _, value in panel.bars)
    room = _HALF - _LABEL - _VALUE
    yield f'<text class="title" x="{x}" y="{y + 16}">{escape(panel.title)}</text>'
    yield f'<text class="note" x="{x}" y="{y + 32}">{escape(panel.note)}</text>'
    for place, (name, value) in enumerate(panel.bars):
        top = y + _TITLE + place * _STEP
        width = max(value / most * room, 1)
        kind = "ours" if name in OURS else "other"
        middle = top + _BAR - 3
        yield f'<text x="{x + _LABEL - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>'
        yield (
            f'<rect class="{kind}" x="{x + _LABEL}" y="{top}" width="{width:.1f}" '
            f'height="{_BAR}" rx="2"/>'
        )
        yield f'<text x="{x + _LABEL + width + 6:.1f}" y="{middle}">{number(value)}</text>'
