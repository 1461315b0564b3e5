"""Results as text: for the terminal, and for README.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.peers import OURS
from harness.results import show

if TYPE_CHECKING:
    from harness.budgets import Verdict
    from harness.results import Measure, Results


def lines(results: Results) -> list[str]:
    """A row for each measure, a column for each peer; beside each value, how much of it we need."""
    names = columns(results)
    rows = [["", *names], *([measure.name, *_cells(measure, names)] for measure in results.measures.values())]
    return _aligned(rows)


def columns(results: Results) -> list[str]:
    """The peers, in the order in which they were measured first."""
    return list(dict.fromkeys(peer for measure in results.measures.values() for peer in measure.values))


def _cells(measure: Measure, names: list[str]) -> list[str]:
    return [cell(measure, peer) for peer in names]


def cell(measure: Measure, peer: str) -> str:
    if peer not in measure.values:
        return ""
    shown = show(measure.values[peer].median, measure.unit)
    ratio = measure.ratio(OURS, peer)
    return shown if peer == OURS or ratio is None or ratio < 0 else f"{shown} ({factor(ratio)})"


def factor(ratio: float) -> str:
    """How often it goes into what we need, to two digits."""
    return f"{ratio:.2g} ×" if ratio < 10 else f"{ratio:.0f} ×"


def verdict_lines(verdicts: list[Verdict]) -> list[str]:
    words = {True: "holds", False: "missed", None: "?"}
    return _aligned([[v.measure, v.wanted, words[v.holds], v.measured] for v in verdicts])


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
