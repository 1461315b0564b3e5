"""Rounds that alternate between the peers, and what is left of them: median and quartiles.

A B C A B C: whatever else the machine does then, it does to all of them. Nothing is pinned to a CPU: a container manager
is not either, and on a machine of two CPUs that would decide who shares one with the runtime. The driver's garbage
collector stands still meanwhile; that of a shim is its own business. A median over many rounds, with the quartiles beside
it, since means follow the outliers of a busy machine.
"""

from __future__ import annotations

import gc
import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SETTLE_S = 0.05


def interleave(
    actions: Mapping[str, Callable[[], object]], rounds: int, *, batch: int = 1, warmup: int = 1
) -> dict[str, list[float]]:
    """What each action took, `rounds` times `batch` samples; a float that one returns counts in place of its time."""
    samples: dict[str, list[float]] = {name: [] for name in actions}
    with garbage_left_alone():
        for number in range(-warmup, rounds):
            for name, action in actions.items():
                settle()
                taken = [timed(action) for _ in range(batch)]
                if number >= 0:
                    samples[name] += taken
    return samples


def timed(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    own = action()
    took = time.perf_counter() - begin
    return own if isinstance(own, float) else took


@contextmanager
def garbage_left_alone() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def settle() -> None:
    """Nothing else runs, so that nobody pays for what another has put off; on a busy machine it is waited for shortly."""
    deadline = time.perf_counter() + _SETTLE_S
    while _running() > 1 and time.perf_counter() < deadline:
        time.sleep(0.001)


def _running() -> int:
    with open("/proc/loadavg") as file:
        return int(file.read().split()[3].partition("/")[0])


def quartiles(samples: list[float]) -> tuple[float, float, float]:
    """The median between the lower and the upper quartile."""
    if len(samples) < 2:
        return (samples[0],) * 3
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, median, high
