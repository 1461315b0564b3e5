"""DESIGN.md's budgets, and which of them hold in a run.

Where a budget is a ratio, it is one to containerd's own shim; it holds when it does against every version that was
measured, but for the memory, which DESIGN.md compares with the newer one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.peers import DISTRIBUTION, NEWER, OURS
from harness.results import show

if TYPE_CHECKING:
    from harness.results import Results

KIB = 1024


@dataclass(frozen=True, slots=True)
class Budget:
    """`measure` is at most `ratio` times that of each of `of`; or `most`, in its own unit."""

    measure: str
    ratio: float | None = None
    most: float | None = None
    of: tuple[str, ...] = (DISTRIBUTION, NEWER)


@dataclass(frozen=True, slots=True)
class Verdict:
    measure: str
    wanted: str
    measured: str
    holds: bool | None
    """None: it was not measured."""


BUDGETS = (
    Budget("start", ratio=0.5),
    Budget("create to delete", ratio=0.85),
    Budget("own share of create to delete", most=0.005),
    Budget("memory of a shim with one container", ratio=0.5, of=(NEWER,)),
    Budget("memory of a further container in a shared shim", most=150 * KIB),
    Budget("State", ratio=0.7),
    Budget("Stats", ratio=0.3),
    Budget("Pids", ratio=0.02),
    # A throughput of four times as much is a quarter of the time.
    Budget("1 GiB of output, by a FIFO", ratio=0.25),
    Budget("CPU of the shim for 1 GiB of output", ratio=0.2),
    Budget("exec, start to exit", ratio=0.95),
    Budget("C in native/", most=1200),
)


def verdicts(results: Results) -> list[Verdict]:
    return [_verdict(budget, results) for budget in BUDGETS]


def _verdict(budget: Budget, results: Results) -> Verdict:
    wanted = f"at most {budget.ratio:g} ×" if budget.ratio is not None else ""
    measure = results.measures.get(budget.measure)
    if measure is None or OURS not in measure.values:
        return Verdict(budget.measure, wanted, "not measured", None)
    ours = measure.values[OURS].median
    if budget.most is not None:
        wanted = f"at most {show(budget.most, measure.unit)}"
        return Verdict(budget.measure, wanted, show(ours, measure.unit), ours <= budget.most)
    ratios = {peer: ratio for peer in budget.of if (ratio := measure.ratio(OURS, peer)) is not None}
    if not ratios:
        return Verdict(budget.measure, wanted, f"{show(ours, measure.unit)}, nothing to compare with", None)
    told = ", ".join(f"{ratio:.2g} × {peer}" for peer, ratio in ratios.items())
    return Verdict(budget.measure, wanted, told, max(ratios.values()) <= budget.ratio)
