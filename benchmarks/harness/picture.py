"""The picture of the results that README.md shows: an SVG of bars, two columns of measures, one bar for each peer.

Within a measure the longest bar is as long as there is room, so bars are compared within one measure only. Written by
hand, since a plotting library is larger than the project; it brings its own background, light or dark as the reader's.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from harness.peers import BARE, CONMON, OURS, of_containerd
from harness.results import show

if TYPE_CHECKING:
    from harness.results import Measure, Results

SHOWN = (
    "start",
    "create to delete",
    "start to shutdown",
    "start to the first byte",
    "50 at once",
    "memory",
    "memory of a further container",
    "State",
    "Stats",
    "Pids",
    "exec",
    "CPU of an exec",
    "output by FIFO",
    "CPU of output by FIFO",
)

WIDTH, MARGIN, GAP = 880, 28, 40
COLUMN = (WIDTH - 2 * MARGIN - GAP) // 2
BAR, STEP, TITLE, SPACE = 11, 15, 19, 14
TOP, BOTTOM = 92, 30
VALUE = 74
"""Room for the number at the end of the longest bar."""

STYLE = """
text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; fill: #1f2328 }
.title { font-size: 17px; font-weight: 600 } .name { font-weight: 600; font-size: 12.5px }
.small { font-size: 11px; fill: #59636e } .value { font-size: 11px } .ours.value { font-weight: 600 }
.page { fill: #ffffff; stroke: #d1d9e0 }
.bar.ours { fill: #0969da } .bar.older { fill: #8c959f } .bar.newest { fill: #afb8c1 } .bar.conmon { fill: #d4a72c }
.bar.bare { fill: #d0d7de } .whisker { stroke: #1f2328; stroke-opacity: .45 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .page { fill: #0d1117; stroke: #3d444d }
  .bar.ours { fill: #4493f8 } .bar.older { fill: #7d8590 } .bar.newest { fill: #565d66 } .bar.conmon { fill: #bb8009 }
  .bar.bare { fill: #3d444d } .whisker { stroke: #e6edf3 }
}
"""


def picture(results: Results) -> str:
    """An SVG document."""
    columns = _in_two([measure for measure in results.shown() if measure.name in SHOWN])
    height = TOP + max(sum(_height(measure) for measure in column) for column in columns) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<title>ocishim beside containerd's shims</title><style>{STYLE}</style>",
        f'<rect class="page" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        *_head(results),
    ]
    kinds = _kinds(results)
    for number, column in enumerate(columns):
        y = TOP
        for measure in column:
            parts += _measure(measure, kinds, MARGIN + number * (COLUMN + GAP), y)
            y += _height(measure)
    parts += [_text(MARGIN, height - 14, _foot(results), "small"), "</svg>"]
    return "\n".join(parts) + "\n"


def _in_two(measures: list[Measure]) -> list[list[Measure]]:
    """Two columns of about the same height."""
    left, right = [], list(measures)
    while right and sum(map(_height, left)) < sum(map(_height, right)):
        left.append(right.pop(0))
    return [left, right]


def _height(measure: Measure) -> int:
    return TITLE + STEP * len(measure.values) + SPACE


def _head(results: Results) -> list[str]:
    parts = [_text(MARGIN, 36, "ocishim beside the shims of containerd", "title")]
    parts.append(_text(WIDTH - MARGIN, 36, "shorter is better", "small", end=True))
    x = MARGIN
    for peer, kind in _kinds(results).items():
        label = f"{peer} ({results.versions[peer]})" if peer in results.versions else peer
        parts += [_bar(kind, x, 52, BAR), _text(x + 17, 62, label)]
        x += 17 + round(6.6 * len(label)) + 22
    return parts


def _kinds(results: Results) -> dict[str, str]:
    """The class of each peer's bars."""
    found = {peer for measure in results.measures.values() for peer in measure.values}
    go = of_containerd(found)
    kinds = {OURS: "ours"} | dict.fromkeys(go[:-1], "older") | dict.fromkeys(go[-1:], "newest")
    return {peer: kind for peer, kind in (kinds | {CONMON: "conmon", BARE: "bare"}).items() if peer in found}


def _measure(measure: Measure, kinds: dict[str, str], x: int, y: int) -> list[str]:
    """Its name, and a bar with its number for each peer."""
    parts = [_text(x, y + 11, measure.name, "name")]
    longest = max(*(value.high for value in measure.values.values()), 1e-9)
    for row, (peer, value) in enumerate(measure.values.items()):
        kind, top = kinds[peer], y + TITLE + STEP * row
        length, end = (max(part, 0) / longest * (COLUMN - VALUE) for part in (value.median, value.high))
        start = max(value.low, 0) / longest * (COLUMN - VALUE)
        parts += [_bar(kind, x, top, max(length, 1.5)), _whisker(x + start, x + end, top)]
        parts.append(
            _text(x + max(length, end) + 7, top + 9.5, show(value.median, measure.unit), f"{kind} value")
        )
    return parts


def _bar(kind: str, x: float, y: float, length: float) -> str:
    return f'<rect class="bar {kind}" x="{x:g}" y="{y:g}" width="{length:.1f}" height="{BAR}" rx="1.5"/>'


def _whisker(start: float, end: float, top: float) -> str:
    """From the lower to the upper quartile."""
    return f'<path class="whisker" d="M{start:.1f} {top + BAR / 2}H{end:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str = "", *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{x:.1f}" y="{y:g}" class="{kind}"{anchor}>{escape(text)}</text>'


def _foot(results: Results) -> str:
    machine = results.machine
    return (
        f"Medians and quartiles; {results.date}, runc {results.versions.get('runc', '')}, Python "
        f"{results.versions.get('Python', '')}, {machine['kernel']}, cgroup {machine['cgroups']}, {machine['cpus']}"
    )
