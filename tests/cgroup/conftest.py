from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import bed

from shim.cgroup import hierarchy as hierarchies
from shim.cgroup import tree
from shim.cgroup.hierarchy import Hierarchy
from shim.cgroup.legacy import LegacyGroup

Inside = Callable[..., subprocess.Popen[bytes]]

# "0" is the writing process itself.
ENTER = 'for group in $GROUPS_TO_ENTER; do echo 0 > "$group/cgroup.procs" || exit 99; done; echo; exec "$@"'


@pytest.fixture(scope="session")
def hierarchy() -> Hierarchy:
    return hierarchies.detect()


@pytest.fixture
def inside() -> Iterator[Inside]:
    """Starts a program in groups: ``inside(argv, directory, ...)`` returns once it is there; killed afterwards.

    The fixtures that make groups ask for this one, so that theirs are thawed, killed and removed before it waits.
    """
    started: list[subprocess.Popen[bytes]] = []

    def start(argv: list[str], *directories: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["sh", "-c", ENTER, "enter", *argv],
            env={"PATH": os.environ["PATH"], "GROUPS_TO_ENTER": " ".join(directories)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"\n", "could not enter the group"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def fork_bomb() -> list[str]:
    """A program that goes on forking for ever, and whose processes stay, however few more there may be."""
    program = "import os\nwhile True:\n  try: os.fork()\n  except OSError: os.sched_yield()"
    return [sys.executable, "-c", program]


@pytest.fixture
def parent(hierarchy: Hierarchy, inside: Inside) -> Iterator[str]:
    """A v2 path of this test alone, not made yet; whatever is there in the end is killed and removed."""
    path = f"/ocishim-test-{uuid.uuid4().hex[:8]}"
    yield path
    directory = hierarchy.unified.mount_point + path
    if Path(directory).exists():
        tree.write_file(f"{directory}/cgroup.kill", "1")
        _wait_until(lambda: tree.remove_tree(directory))


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "a group of the test could not be removed"
        os.sched_yield()


@pytest.fixture
def legacy_group(hierarchy: Hierarchy, inside: Inside) -> Iterator[Callable[[], LegacyGroup]]:
    """Makes a group of the same name in the usual v1 hierarchies; removed afterwards with all that runs in it."""
    controllers = ("cpu", "cpuacct", "memory", "pids", "freezer")
    bed.need(
        hierarchy.mode in {"hybrid", "legacy"},
        "this host has no cgroup v1 controllers, so nothing runs there",
    )
    made: list[LegacyGroup] = []

    def make(below: LegacyGroup | None = None) -> LegacyGroup:
        name = f"ocishim-test-{uuid.uuid4().hex[:8]}"
        above = (
            below.directories if below else {key: hierarchy.legacy[key].mount_point for key in controllers}
        )
        group = LegacyGroup({key: f"{directory}/{name}" for key, directory in above.items()})
        for directory in set(group.directories.values()):
            os.mkdir(directory)
        made.append(group)
        return group

    yield make
    for group in reversed(made):
        group.kill()
        for directory in set(group.directories.values()):
            _wait_until(functools.partial(tree.remove_tree, directory))
