"""The programs of this project, installed for one test, with templates of its own: what it does to them harms no other."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from support import bed, templates
from support.client_streams import DEADLINE_S


class Installation:
    """The programs in a folder of their own, whose templates listen beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.place = folder / "t"
        self.folder.mkdir()
        templates.install(self.folder)
        self.env = {"OCISHIM_TEMPLATE_DIR": str(self.place), "OCISHIM_TEMPLATE": ""}

    def ready(self) -> int:
        """A template serves, and has a fork that waits; its pid."""
        templates.ready(self.folder, **self.env)
        bed.until(self._waits, "no fork waits")
        return self.template()

    def _waits(self) -> bool:
        """The one that has served ``-v`` has ended, and another one is in its place."""
        pids = self.running()
        return len(pids) == 2 and all(map(waits_for_somebody, pids))

    def template(self) -> int:
        """The pid of the one that forks."""
        return min(self.running(), key=started)

    def running(self) -> list[int]:
        return templates.running(self.place)

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return ended(self.begin(*words, **env))

    def begin(self, *words: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.folder / templates.LAUNCHER, *words],
            env={**os.environ, **self.env, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> None:
        for pid in self.running():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        bed.until(lambda: not self.running(), "a template does not end")


def started(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return sys.maxsize


# poll, ppoll, pselect (a fork that looks after its cgroups from time to time), accept and accept4.
_WAITING = {"x86_64": {"7", "270", "271", "43", "288"}, "aarch64": {"72", "73", "202", "242"}}[
    os.uname().machine
]


def waits_for_somebody(pid: int) -> bool:
    """Whether it sleeps until there is a connection."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/syscall").read_text().split()[0] in _WAITING
    return False


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, _ = process.communicate(timeout=DEADLINE_S)
    return subprocess.CompletedProcess(process.args, process.returncode, out)


@cache
def impatient() -> Path:
    """A launcher that waits for a second only until somebody takes its request."""
    target = Path(tempfile.mkdtemp(prefix="ocishim-launcher-")) / "launcher"
    source = bed.CHECKOUT / "native" / "launcher.c"
    atexit.register(shutil.rmtree, target.parent)
    command = [
        "cc",
        "-std=gnu11",
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Werror",
        "-DPATIENCE_S=1",
        "-o",
        target,
        source,
    ]
    subprocess.run(command, check=True)
    return target
