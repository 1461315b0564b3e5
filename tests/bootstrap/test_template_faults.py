"""Templates, forks and launchers that are killed or stopped, and tables that are full: each start works, or fails with a line."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import bed, leaks, templates
from support.client_streams import DEADLINE_S, poll
from support.installation import Installation, ended, impatient
from support.program import Program
from support.shims import CgroupParent

pytestmark = pytest.mark.root

Answer = subprocess.CompletedProcess[str]


@pytest.fixture
def program(installation: Installation, state_root: Path) -> Iterator[Program]:
    """Of the installation; nothing of it is left."""
    before = leaks.processes(state_root)
    program = Program(state_root)
    program.program = [str(installation.folder / "containerd-shim-ocishim-v2")]
    program.env.update(installation.env)
    # As it is for ``ready``, for the same template.
    program.env.pop("PYTHONPATH")
    program.env.update({name: value for name, value in os.environ.items() if name == "PYTHONPATH"})
    yield program
    program.end()
    bed.until(lambda: leaks.processes(state_root) <= before, "something is left")


def begin(program: Program, folder: Path, container_id: str = "c1") -> subprocess.Popen[str]:
    program.addresses.add(f"unix://{program.socket(container_id)}")
    return subprocess.Popen(
        program.command("start", container_id),
        cwd=folder,
        env=program.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def waits_for_an_answer(pid: int) -> bool:
    """In recvfrom(2)."""
    words = Path(f"/proc/{pid}/syscall").read_text().split()
    return words[0] == str({"x86_64": 45, "aarch64": 207}[os.uname().machine])


def works_or_says_why(program: Program, answer: Answer) -> bool:
    """One of the two is so; returns which."""
    if answer.returncode == 0:
        assert answer.stdout in program.addresses
        return True
    assert (answer.returncode, answer.stdout.count("\n")) == (1, 1), answer.stdout
    assert answer.stdout.startswith("containerd-shim-ocishim-v2: ")
    return False


def test_killed_between_message_and_fork(installation, program, bundle):
    """With the message in its socket; the fork that would have taken it goes with it."""
    installation.ready()
    pids = installation.running()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    process = begin(program, bundle(["true"]))
    bed.until(lambda: waits_for_an_answer(process.pid), "the launcher does not connect")
    os.kill(installation.template(), signal.SIGKILL)
    assert ended(process).stdout in program.addresses
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)  # one that was stopped before it was bound to its template
    bed.until(lambda: not set(pids) & set(installation.running()), "its fork lives on")


def test_killed_with_many_starts_in_flight(installation, program, bundle):
    """Again and again, at whatever moment: whether there is a fork, is one being made, or none."""
    installation.ready()
    folders = {f"c{i}": bundle(["true"]) for i in range(20)}
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.03):
            for pid in installation.running()[:1]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        processes = [begin(program, folder, name) for name, folder in folders.items()]
        answers = [ended(process) for process in processes]
    finally:
        over.set()
        killer.join()
    # One that has taken a request may be hit, too, before its command line is the shim's.
    assert sum(works_or_says_why(program, answer) for answer in answers) >= 10


@pytest.fixture
def taken(installation: Installation, program: Program, bundle) -> tuple[subprocess.Popen[str], int]:
    """A start that does not end, since its stdin does not: the launcher, and the fork that has taken it."""
    installation.ready()
    folder = bundle(["true"])
    process = begin(program, folder)

    def forks() -> list[int]:
        return [pid for pid in installation.running() if os.readlink(f"/proc/{pid}/cwd") == str(folder)]

    bed.until(forks, "nobody takes the request")
    (fork,) = forks()
    # It sleeps in read(2) of its stdin: the request is taken.
    bed.until(
        lambda: Path(f"/proc/{fork}/syscall").read_text().startswith(f"{READ} 0x0 "), "it does not read"
    )
    return process, fork


READ = {"x86_64": 0, "aarch64": 63}[os.uname().machine]


def test_a_fork_is_killed_after_it_has_taken_the_request(taken):
    process, fork = taken
    os.kill(fork, signal.SIGKILL)
    done = ended(process)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert "ended without an answer" in done.stdout


def test_a_fork_ends_with_its_launcher(taken):
    """As a program does when it is killed itself, by containerd's deadline or by somebody at a terminal."""
    process, fork = taken
    pidfd = os.pidfd_open(fork)
    process.kill()
    process.wait()  # before the end of its stdin, with which the fork would go on
    process.communicate()
    assert poll(pidfd, select.POLLIN, DEADLINE_S), "the fork lives on"
    os.close(pidfd)


def test_a_request_that_lasts_keeps_nobody_waiting(taken, program, bundle):
    process, _ = taken
    folder = bundle(["true"])
    program.env["OCISHIM_TEMPLATE"] = "only"
    assert ended(begin(program, folder, "c2")).stdout in program.addresses
    assert ended(process).stdout in program.addresses


def test_its_death_is_none_of_a_shims_business(installation, program, bundle):
    pid = installation.ready()
    program.env["OCISHIM_TEMPLATE"] = "only"
    program.start(bundle(["true"]), "c1")
    shim = program.pid()
    os.kill(pid, signal.SIGKILL)
    bed.until(lambda: not installation.running(), "its fork lives on")
    assert program.pid() == shim


def test_a_template_that_hangs(installation, program, bundle):
    """Its fork, too: the launcher waits for a while."""
    shutil.copy2(impatient(), installation.folder / templates.LAUNCHER)
    installation.ready()
    for pid in installation.running():
        os.kill(pid, signal.SIGSTOP)
    assert ended(begin(program, bundle(["true"]))).stdout in program.addresses


@pytest.mark.parametrize(
    "message", [b"", b"x", b"\0" * 8, b"\xff" * 100], ids=["nothing", "a byte", "zeroes", "ones"]
)
def test_who_is_no_launcher(installation, message):
    pid = installation.ready()
    (address,) = [path for path in installation.place.iterdir() if path.is_socket()]
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(address))
        stranger.send(message)
        stranger.shutdown(socket.SHUT_WR)
        stranger.settimeout(DEADLINE_S)
        assert b"RT" not in stranger.recv(2)
    assert installation.run("-v", OCISHIM_TEMPLATE="only").returncode == 0
    assert installation.template() == pid


UNABLE = """
import errno, os, sys
sys.path.insert(0, sys.argv[1])
from shim.bootstrap import template
def fork(): raise OSError(errno.EAGAIN, "no more processes")
os.fork = fork
template.main(sys.argv[2])
"""


def test_no_process_for_a_fork(installation):
    """It ends, so that nobody waits for it; why is in its log."""
    path = installation.place / "0"
    command = [sys.executable, "-c", UNABLE, installation.folder / "lib", path]
    assert subprocess.run(command, check=False, timeout=DEADLINE_S).returncode != 0
    assert not path.exists()
    assert "no more processes" in Path(f"{path}.log").read_text()


@pytest.mark.parametrize("template", [False, True])
@pytest.mark.parametrize("most", [2, 3])
def test_no_process_for_a_shim(installation, program, bundle, template, most):
    """The cgroup of the caller is full."""
    parent = CgroupParent()
    folders = [folder for folder in parent.folders if (folder / "pids.max").exists()]
    bed.need(folders, "no pids controller")
    caller = f'echo $$ > "$CGROUP/cgroup.procs"; echo {most} > "$CGROUP/pids.max"; "$@"; exit $?'
    try:
        limited(installation, program, bundle(["true"]), caller, template=template, CGROUP=str(folders[0]))
        program.end()
    finally:
        bed.until(lambda: gone(folders[0]), "the group is busy")
        folders[0].mkdir()
        parent.remove()


def gone(group: Path) -> bool:
    with suppress(OSError):
        group.rmdir()
    return not group.exists()


@pytest.mark.parametrize("template", [False, True])
@pytest.mark.parametrize("most", [6, 10, 16])
def test_no_descriptor_for_a_shim(installation, program, bundle, template, most):
    limited(installation, program, bundle(["true"]), f'ulimit -n {most}; exec "$@"', template=template)


def limited(
    installation: Installation, program: Program, folder: Path, caller: str, *, template: bool, **env: str
) -> None:
    """A start works or says why, whoever does it; a shim may be too poor for anything more."""
    before = leaks.processes(program.root)
    if template:
        installation.ready()
    else:
        program.env["OCISHIM_TEMPLATE"] = "off"
    program.addresses.add(f"unix://{program.socket('c1')}")
    done = program.run(["sh", "-c", caller, "sh", *program.command("start", "c1")], folder, **env)
    works_or_says_why(program, Answer([], done.returncode, done.stdout.decode()))
    leaks.kill(list(leaks.processes(program.root) - before))


@pytest.mark.parametrize(
    "fault",
    [
        "raise OSError(28, 'full')",
        "raise RuntimeError('a fault of ours')",
        "os.kill(os.getpid(), 9)",
        "__import__('time').sleep(1000)",
    ],
)
def test_an_understudy_that_never_stands_in(installation, fault):
    """The template goes on without it, and nothing of it is left."""
    module = installation.folder / "lib" / "shim" / "bootstrap" / "understudy.py"
    text = module.read_text()
    assert "    put_together(hot)\n" in text
    text = text.replace("    put_together(hot)\n", f"    {fault}\n")
    module.write_text(text.replace("_PATIENCE_S = 5.0", "_PATIENCE_S = 1.0"))
    first = installation.begin("-v")
    bed.until(installation.running, "no template was started")
    pid = installation.template()
    assert ended(first).returncode == 0
    assert installation.ready() == pid
    assert installation.run("-v", OCISHIM_TEMPLATE="only").returncode == 0
    installation.ready()
    log = next(installation.place.glob("*.log"))
    assert ("a fault of ours" in log.read_text()) == ("RuntimeError" in fault)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("understudy", "    put_together(hot)\n"),
        # It is a shim at that moment, which does not end at a SIGTERM.
        ("life", "    with Client.connect(path, namespace=_ID) as client:\n"),
    ],
)
def test_a_template_that_ends_while_its_understudy_rehearses(installation, name, line):
    module = installation.folder / "lib" / "shim" / "bootstrap" / f"{name}.py"
    sleep = "    open('/proc/self/comm', 'w').write('asleep'), __import__('time').sleep(1000)\n"
    assert line in module.read_text()
    module.write_text(module.read_text().replace(line, sleep + line))

    def asleep() -> bool:
        with suppress(OSError):
            return any(Path(f"/proc/{pid}/comm").read_text() == "asleep\n" for pid in installation.running())
        return False

    assert installation.run("-v").returncode == 0
    bed.until(asleep, "there is no understudy")
    os.kill(installation.template(), signal.SIGTERM)
    bed.until(lambda: not installation.running(), "it does not end")
    assert {path.suffix for path in installation.place.iterdir()} <= {".rehearsal"}


def test_a_rehearsal_that_fails(installation):
    """The fork that it happens to serves all the same, and ends with its template."""
    module = installation.folder / "lib" / "shim" / "bootstrap" / "rehearsal.py"
    module.write_text(
        module.read_text().replace("machine = Connection(Role.CLIENT)", "raise OSError(28, 'full')")
    )
    pid = installation.ready()
    assert installation.run("-v", OCISHIM_TEMPLATE="only").returncode == 0
    installation.ready()
    os.kill(pid, signal.SIGKILL)
    bed.until(lambda: not installation.running(), "its fork lives on")
