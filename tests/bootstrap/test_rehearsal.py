"""What a fork does ahead is a start like any other, and nothing is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import bed

pytestmark = pytest.mark.root

# In a process of its own, as in a fork: it changes streams, directory and environment.
PROGRAM = """
import logging, os, signal, sys, threading
import prctl
from shim.bootstrap import fork, life, rehearsal
from shim.bootstrap.caller import Surroundings
from shim.linux.inotify import FileWatch

def inherited():
    return (
        sorted(os.listdir("/proc/self/fd")), os.getcwd(), dict(os.environ), Surroundings.of(os.getpid()),
        sorted(os.listdir(os.path.dirname(sys.argv[1]))), open("/proc/self/comm").read(), prctl.get_child_subreaper(),
        [signal.getsignal(number) for number in signal.valid_signals()], logging.getLogger().handlers, threading.enumerate(),
        [line for line in open("/proc/self/status") if line.startswith(("SigB", "SigI", "SigC"))],
    )

do, said = fork._do, []
fork._do = lambda *arguments: said.append(do(*arguments)) or said[-1]
play, told, tell = life._client, *os.pipe()
life._client = lambda path: play(path) or os.write(tell, b".")  # not after an error
company = getattr(*{"client": (rehearsal, "client"), "whole_life": (life, "whole_life")}[sys.argv[2]])
os.chdir("/")
out = os.dup(1)
with FileWatch("/proc/self/exe") as watch:
    for _ in range(2):  # modules open their files at the first time
        before = inherited()
        fork.rehearse(os.getppid(), sys.argv[1], Surroundings.of(os.getpid()), watch, company)
    after = inherited()
os.set_blocking(told, False)
lives = len(os.read(told, 9)) if sys.argv[2] == "whole_life" else 0
os.write(out, repr((said, [(a, b) for a, b in zip(before, after) if a != b], lives)).encode())
"""


@pytest.mark.parametrize("length", [10, 60])
@pytest.mark.parametrize(("company", "lives"), [("client", 0), ("whole_life", 2)])
def test_it_is_a_start_of_which_nothing_is_left(
    state_root: Path, company: str, lives: int, length: int
) -> None:
    """Nor of the life of a shim after it, however long the path of its directory is."""
    command = [sys.executable, "-c", PROGRAM, str(state_root / ("r" * length)), company]
    env = {**os.environ, "PYTHONPATH": str(bed.CHECKOUT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout == f"([0, 0], [], {lives})", done.stderr
    assert list(state_root.iterdir()) == []
