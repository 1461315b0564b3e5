"""Rounds that alternate, and a janitor that clears away after those who cannot."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import janitor
from harness.rounds import interleave, quartiles


def test_actions_take_turns() -> None:
    calls: list[str] = []
    samples = interleave({name: lambda name=name: calls.append(name) for name in "ab"}, 2, batch=2, warmup=1)
    assert "".join(calls) == "aabb" * 3
    assert {name: len(taken) for name, taken in samples.items()} == {"a": 4, "b": 4}
    assert all(taken > 0 for taken in samples["a"])


def test_what_an_action_returns_counts_if_it_is_a_number_of_seconds() -> None:
    samples = interleave({"own": lambda: 5.0, "timed": lambda: "an answer"}, 1)
    assert samples["own"] == [5.0]
    assert 0 < samples["timed"][0] < 5.0


def test_the_collector_is_back_after_a_failure() -> None:
    def fail() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        interleave({"fails": fail}, 1)
    assert gc.isenabled()


def test_quartiles() -> None:
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)
    assert quartiles([1.0]) == (1.0, 1.0, 1.0)


def sweeper(folder: Path, **how: Any) -> subprocess.Popen[str]:
    folder.mkdir()
    (folder / "file").touch()
    argv = [sys.executable, janitor.__file__, str(folder), "no-such-group"]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **how)


@pytest.mark.root
def test_the_janitor_ends_what_is_left_and_removes_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    with sweeper(folder) as sweeping:
        by_place = subprocess.Popen(["sleep", "1000"], cwd=folder)
        by_environment = subprocess.Popen(["sleep", "1001"], env={"BENCH": str(folder)})
        bystander = subprocess.Popen(["sleep", "1002"], cwd=tmp_path)
        said, _ = sweeping.communicate(timeout=30)
    assert sorted(said.splitlines()) == ["sleep 1000", "sleep 1001"]
    assert (by_place.wait(), by_environment.wait()) == (-9, -9)
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    assert not folder.exists()


@pytest.mark.root
def test_the_janitor_needs_nobody_to_listen(tmp_path: Path) -> None:
    # As after a SIGKILL of the benchmarks.
    folder = tmp_path / "bench"
    with sweeper(folder) as sweeping, subprocess.Popen(["sleep", "1000"], cwd=folder) as left:
        sweeping.stdout.close()
        sweeping.stdin.close()
    assert left.returncode == -9
    assert sweeping.returncode == 0
    assert not folder.exists()
