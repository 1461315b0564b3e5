"""Whether a fork is alone in a group of whoever called last."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.bootstrap.caller import WAITING, is_alone

NAMED = "import sys; from shim.linux.prctl import set_name; set_name(sys.argv[1]); print(flush=True); input()"


@pytest.fixture
def other(request) -> Iterator[int]:
    """A process of that name."""
    command = [sys.executable, "-c", NAMED, request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield process.pid
        process.communicate(b"\n")


@pytest.mark.parametrize(("other", "alone"), [(WAITING, True), ("containerd", False)], indirect=["other"])
def test_another_fork_that_waits_is_nobody(tmp_path: Path, other: int, alone) -> None:
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n{other}\n")
    assert is_alone({str(tmp_path)}) is alone


def test_a_group_that_is_gone_holds_nobody(tmp_path: Path) -> None:
    assert is_alone({f"{tmp_path}/gone"})
