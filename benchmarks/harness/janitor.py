"""Takes away whatever a run of the benchmarks has left, however it ended: by itself, by Ctrl-C, by SIGKILL.

    janitor.py FOLDER GROUP

A process of its own, which waits for the end of its stdin; nobody but the benchmarks has the other end. Then no process
is left that works below FOLDER or has its name in its environment or arguments, no mount below it, no cgroup GROUP or GROUP-caller
in any hierarchy, no socket named by a file `answer` below it, and no FOLDER. Prints a line for each process that it had to kill.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PATIENCE_S = 10.0


def main(folder: str, group: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.buffer.read()
    # A runtime that was just being called starts one more process, so it is looked for until there is none.
    while left := _processes(folder):
        for pid, command in left.items():
            _kill(pid)
            with contextlib.suppress(BrokenPipeError):  # nobody is there to be told after a SIGKILL
                os.write(1, os.fsencode(f"{command}\n"))
    _remove_sockets(folder)
    _unmount(folder)
    _remove_groups(group)
    _remove_groups(f"{group}-caller")
    shutil.rmtree(folder, ignore_errors=True)


def _processes(folder: str) -> dict[int, str]:
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if int(pid) == os.getpid() or not _belongs(Path("/proc") / pid, folder):
                continue
            found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    return found


def _belongs(process: Path, folder: str) -> bool:
    if Path(os.readlink(process / "cwd")).is_relative_to(folder):
        return (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    mark = os.fsencode(folder)
    return mark in (process / "environ").read_bytes() or mark in (process / "cmdline").read_bytes()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], PATIENCE_S)
        finally:
            os.close(pidfd)


def _remove_sockets(folder: str) -> None:
    for answer in Path(folder).rglob("answer"):
        with contextlib.suppress(OSError):
            os.unlink(answer.read_text().removeprefix("unix://"))


def _unmount(folder: str) -> None:
    points = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if Path(point).is_relative_to(folder):
            subprocess.run(["umount", "--lazy", point], check=False)


def _remove_groups(group: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and not all(
        map(_removed, [*CGROUPS.glob(f"*/{group}"), *CGROUPS.glob(group)])
    ):
        # A fork of a template waits where the last caller was, and leaves when it sees that it is alone there.
        time.sleep(0.05)


def _removed(top: Path) -> bool:
    for path, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)
    return not top.exists()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
