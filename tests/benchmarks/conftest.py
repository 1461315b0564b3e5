"""Results of no machine, for what is made of results."""

from __future__ import annotations

import pytest
from harness.results import Results


@pytest.fixture
def results() -> Results:
    machine = {
        "cpus": "2 of Some CPU",
        "memory": "4 GiB",
        "kernel": "Linux 6.1",
        "cgroups": "v2",
        "load": "0.1",
    }
    versions = {
        "ocishim": "0.1.0",
        "containerd 1.6": "1.6.20",
        "containerd 2.1": "2.1.9",
        "runc": "1.1.5",
    }
    results = Results("2026-01-02", machine, versions | {"Python": "3.11.7"}, full=False)
    results.add(
        "State",
        "s",
        {"ocishim": [0.00003] * 3, "containerd 1.6": [0.00006] * 3, "containerd 2.1": [0.00004] * 3},
    )
    results.add("memory", "B", {"ocishim": [4 << 20], "containerd 2.1": [9 << 20], "conmon": [300 << 10]})
    results.add(
        "start", "s", {"ocishim": [0.012, 0.010, 0.011], "containerd 1.6": [0.01], "containerd 2.1": [0.02]}
    )
    return results
