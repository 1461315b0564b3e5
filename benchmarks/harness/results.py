"""What was measured, as it is kept: one JSON file, of one run.

Of every measure less is better: a throughput is kept as the time that an amount takes. Nothing in the file tells which
machine it was, only of which kind.
"""

from __future__ import annotations

import json
import os
import platform
import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from harness.measures import MEASURES
from harness.peers import OURS
from harness.rounds import quartiles

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1
PATH = Path(__file__).resolve().parents[1] / "results" / "results.json"


@dataclass(frozen=True, slots=True)
class Value:
    """What one peer needs: `median` of `rounds`, half of which lie between `low` and `high`."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, samples: list[float]) -> Self:
        low, median, high = (float(f"{number:.4g}") for number in quartiles(samples))
        return cls(median, low, high, len(samples))


@dataclass(frozen=True, slots=True)
class Measure:
    """`unit` is `s`, `B` or `lines`; `values` are by the names of the peers."""

    name: str
    unit: str
    values: dict[str, Value]

    def ratio(self, peer: str, to: str) -> float | None:
        """How much of what `to` needs `peer` does; None when one of them was not measured."""
        if peer not in self.values or to not in self.values or self.values[to].median <= 0:
            return None
        return self.values[peer].median / self.values[to].median


@dataclass(slots=True)
class Results:
    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    full: bool
    measures: dict[str, Measure] = field(default_factory=dict)

    @classmethod
    def of_today(cls, versions: dict[str, str], *, full: bool) -> Self:
        return cls(datetime.now(UTC).date().isoformat(), machine(), versions, full)

    def add(self, name: str, unit: str, samples: Mapping[str, list[float]]) -> None:
        """Raises KeyError for a name that measures.py does not explain."""
        if name not in MEASURES:
            raise KeyError(name)
        values = {peer: Value.of(taken) for peer, taken in samples.items() if taken}
        self.measures[name] = Measure(name, unit, values)

    def shown(self) -> list[Measure]:
        """What was measured, in the order in which people read it."""
        return [self.measures[name] for name in MEASURES if name in self.measures]

    def save(self, path: Path) -> None:
        body = {"format": FORMAT} | asdict(self)
        for name, measure in body["measures"].items():
            del measure["name"]
            measure["ratio"] = _ratios(self.measures[name])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(body, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises ValueError when the file is of another format."""
        body = json.loads(path.read_text())
        if body.pop("format", None) != FORMAT:
            raise ValueError(f"{path} is not of format {FORMAT}")
        measures = {name: _measure(name, found) for name, found in body.pop("measures").items()}
        return cls(**body, measures=measures)


def _measure(name: str, found: dict) -> Measure:
    values = {peer: Value(**value) for peer, value in found["values"].items()}
    return Measure(name, found["unit"], values)


def _ratios(measure: Measure) -> dict[str, float]:
    """Of our own value to each other's, for people who read the file."""
    found = {peer: measure.ratio(OURS, peer) for peer in measure.values if peer != OURS}
    return {peer: float(f"{ratio:.3g}") for peer, ratio in found.items() if ratio is not None}


def machine() -> dict[str, str]:
    """The kind of machine that this is, and how busy it has been in the last minute."""
    cpus = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[1])
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return {
        "cpus": f"{os.cpu_count()} of {re.sub(r'[(](R|TM)[)]', '', cpus[1]) if cpus else platform.machine()}",
        "memory": f"{memory / (1 << 20):.0f} GiB",
        "kernel": f"Linux {'.'.join(platform.release().split('.')[:2])}",
        "cgroups": "v2" if unified else "v1",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


_SCALES = {
    "s": [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")],
    "B": [(float(1 << 20), "MiB"), (float(1 << 10), "KiB")],
    "lines": [(1.0, "lines")],
}


def show(number: float, unit: str) -> str:
    """With three digits and a unit of a size that people read easily."""
    scale, name = next((pair for pair in _SCALES[unit] if abs(number) >= pair[0]), _SCALES[unit][-1])
    scaled = number / scale
    return f"{scaled:,.0f} {name}" if abs(scaled) >= 100 or unit == "lines" else f"{scaled:.3g} {name}"


def factor(ratio: float) -> str:
    """As `0.85 ×`, with two digits."""
    return f"{ratio:.2g} ×" if ratio < 10 else f"{ratio:.0f} ×"
