"""DESIGN.md's budgets, and which of them hold in a run.

A ratio is one to containerd's own shim, of each version that was measured: a budget may hold against one and not against
the other. For memory DESIGN.md names the newer one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.peers import OURS, of_containerd
from harness.results import factor, show

if TYPE_CHECKING:
    from harness.results import Measure, Results

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Budget:
    """`measure` is at most `ratio` times that of containerd's shims, or of the newest one; or `most`, in its own unit."""

    measure: str
    ratio: float = 0.0
    most: float = 0.0
    newest: bool = False

    def wanted(self, unit: str) -> str:
        return f"at most {factor(self.ratio) if self.ratio else show(self.most, unit)}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a budget holds, against what it was held."""

    measure: str
    wanted: str
    holds: dict[str, bool]
    measured: str

    @property
    def word(self) -> str:
        kept = [against for against, holds in self.holds.items() if holds]
        if not self.holds:
            return "not measured"
        if len(kept) == len(self.holds):
            return "holds"
        return f"only against {', '.join(kept)}" if kept else "missed"


BUDGETS = (
    Budget("start", ratio=0.5),
    Budget("create to delete", ratio=0.85),
    Budget("own share of create to delete", most=0.005),
    Budget("memory", ratio=0.5, newest=True),
    Budget("memory of a further container", most=150 * _KIB),
    Budget("State", ratio=0.7),
    Budget("Stats", ratio=0.3),
    Budget("Pids", ratio=0.02),
    # A throughput of four times as much is a quarter of the time.
    Budget("output by FIFO", ratio=0.25),
    Budget("CPU of output by FIFO", ratio=0.2),
    Budget("exec", ratio=0.95),
    Budget("500 reads of the catalog", most=1.0),
    Budget("C in native/", most=1200),
)


def verdicts(results: Results) -> list[Verdict]:
    return [_verdict(budget, results.measures.get(budget.measure)) for budget in BUDGETS]


def _verdict(budget: Budget, measure: Measure | None) -> Verdict:
    if measure is None or OURS not in measure.values:
        return Verdict(budget.measure, "", {}, "")
    ours, wanted = measure.values[OURS].median, budget.wanted(measure.unit)
    shown = show(ours, measure.unit)
    if not budget.ratio:
        return Verdict(budget.measure, wanted, {"": ours <= budget.most}, shown)
    others = of_containerd(measure.values)[-1 if budget.newest else 0 :]
    ratios = {peer: ratio for peer in others if (ratio := measure.ratio(OURS, peer)) is not None}
    told = ", ".join([shown, *(f"{factor(ratio)} of {peer}" for peer, ratio in ratios.items())])
    return Verdict(budget.measure, wanted, {peer: r <= budget.ratio for peer, r in ratios.items()}, told)
