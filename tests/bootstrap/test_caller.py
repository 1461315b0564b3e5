"""Whether a fork is alone in a group of whoever called last."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import groups
from support.forks import in_fork

from shim.bootstrap.caller import WAITING, is_alone, join_cgroups

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


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_where_not_all_groups_are_there_any_more_none_is_joined() -> None:
    """They are being removed one by one, and whoever stays in one keeps it from that."""
    places = groups.everywhere(f"ocishim-caller-{os.getpid()}")
    wanted = "".join(
        f"{line.rpartition(':')[0]}:/{places[0].name}\n"
        for line in Path("/proc/self/cgroup").read_text().splitlines()
    ).encode()

    def child() -> None:
        with pytest.raises(OSError):
            join_cgroups(wanted)
        assert places[0].name not in Path("/proc/self/cgroup").read_text()

    for missing in places:
        present = [place for place in places if place != missing]
        for place in present:
            groups.make(place)
        in_fork(child)
        for place in present:
            place.rmdir()
