"""Results as text: columns for the terminal, Markdown for README.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measures import MEASURES
from harness.peers import BARE, OURS
from harness.results import factor, show

if TYPE_CHECKING:
    from harness.budgets import Verdict
    from harness.results import Measure, Results


def lines(results: Results) -> list[str]:
    """A row for each measure, a column for each peer; with each value, our part of it."""
    peers = _peers(results)
    rows = [[m.name, *(_cell(m, peer) for peer in peers)] for m in results.shown()]
    return _aligned([["", *peers], *rows])


def verdict_lines(verdicts: list[Verdict]) -> list[str]:
    return _aligned([[v.measure, v.wanted, v.word, v.measured] for v in verdicts])


def markdown(results: Results) -> str:
    """The same table; the least of each row is bold."""
    peers = _peers(results)
    heads = [f"{peer} {results.versions.get(peer, '')}".strip() for peer in peers]
    rows = [["", *(_head(*pair) for pair in zip(peers, heads, strict=True))], ["---"] * (len(peers) + 1)]
    for measure in results.shown():
        least = min(measure.values, key=lambda peer: measure.values[peer].median)
        cells = [_bold(_cell(measure, peer), peer == least and len(measure.values) > 1) for peer in peers]
        rows.append([f"{measure.name}: {MEASURES[measure.name]}", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _head(peer: str, head: str) -> str:
    # "containerd 1.6" and "1.6.20" are told as one.
    name, _, _ = peer.partition(" ")
    return f"{name} {head.rpartition(' ')[2]}" if name == "containerd" else head


def _bold(text: str, bold: bool) -> str:  # noqa: FBT001 - a word would say no more
    value, space, rest = text.partition(" (")
    return f"**{value}**{space}{rest}" if bold else text


def _peers(results: Results) -> list[str]:
    """Ours first; the less there is in a column the later it comes. The runtime alone has none, for a single value."""
    found = [peer for measure in results.measures.values() for peer in measure.values]
    often = [peer for peer in dict.fromkeys(found) if peer != BARE]
    return sorted(often, key=lambda peer: (peer != OURS, -found.count(peer)))


def _cell(measure: Measure, peer: str) -> str:
    if peer not in measure.values:
        return ""
    shown = show(measure.values[peer].median, measure.unit)
    ratio = measure.ratio(OURS, peer)
    return shown if peer == OURS or ratio is None or ratio < 0 else f"{shown} ({factor(ratio)})"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
