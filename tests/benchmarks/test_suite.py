"""The benchmarks themselves: they can be collected, which is all of them that is quick."""

from __future__ import annotations

import subprocess
import sys

from harness import peers


def test_every_file_has_benchmarks() -> None:
    command = [sys.executable, "-m", "pytest", "-c", "benchmarks/pytest.ini", "--collect-only", "benchmarks"]
    done = subprocess.run(command, cwd=peers.TOP, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert all(f"{path.name}::" in done.stdout for path in (peers.TOP / "benchmarks").glob("bench_*.py"))
