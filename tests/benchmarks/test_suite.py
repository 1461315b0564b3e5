"""The benchmarks themselves: they can be collected, which is all of them that is quick."""

from __future__ import annotations

import subprocess
import sys

from harness import peers
from harness.results import PATH


def test_every_file_has_benchmarks() -> None:
    before = PATH.read_bytes() if PATH.exists() else None
    command = [sys.executable, "-m", "pytest", "-c", "benchmarks/pytest.ini", "--collect-only", "benchmarks"]
    done = subprocess.run(command, cwd=peers.TOP, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert before == (PATH.read_bytes() if PATH.exists() else None), "nothing was measured"
    assert all(f"{path.name}::" in done.stdout for path in (peers.TOP / "benchmarks").glob("bench_*.py"))
