"""A shim that a template has forked beside one with an interpreter of its own: the same; and whom a template does not serve."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import bed, groups, templates
from support.client_streams import DEADLINE_S
from support.installation import ended
from support.program import Program

from shim.bootstrap import template as template_module

pytestmark = pytest.mark.root

# A caller that differs from whoever started the template in all that it can hand on.
CALLER = """
trap '' HUP USR2
umask 027
ulimit -S -n 500; ulimit -c 0; ulimit -s 4096
for group in $CGROUPS; do echo $$ > "$group/cgroup.procs"; done
echo 300 > /proc/$$/oom_score_adj
renice -n 3 $$ > /dev/null
taskset -p 1 $$ > /dev/null
"$@"
exit $?
"""


@pytest.fixture
def group() -> Iterator[list[Path]]:
    """A cgroup in every hierarchy."""
    places = groups.everywhere(f"ocishim-caller-{os.getpid()}")
    for place in places:
        groups.make(place)
    yield places
    for place in places:
        # A fork that waits where the last caller was leaves when it is alone; one that has just been made goes there first.
        bed.until(lambda place=place: _is_removed(place), f"{place} is busy")


def _is_removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    return True


def inherited(pid: int) -> dict[str, object]:
    """What a process has from whoever started it."""
    folder = Path(f"/proc/{pid}")
    status = dict(re.findall(r"^(\w+):\t(.*)$", (folder / "status").read_text(), re.MULTILINE))
    names = ["Name", "Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Cpus_allowed", "Mems_allowed"]
    names += ["SigBlk", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
    stat = (folder / "stat").read_text().rpartition(")")[2].split()
    descriptors = set()
    for fd in (folder / "fd").iterdir():
        with suppress(FileNotFoundError):  # the connection on which we asked for the pid
            descriptors.add(re.sub(r"\d+", "N", os.readlink(fd)))
    return {
        **{name: status[name] for name in names},
        # Without those of libc, which it handles in every process that has had a thread.
        "caught": int(status["SigCgt"], 16) & ~(3 << 31),
        "session and group": [int(number) == pid for number in (stat[2], stat[3])],
        "terminal": stat[4],
        "nice": stat[16],
        "limits": (folder / "limits").read_text(),
        "cgroups": (folder / "cgroup").read_text(),
        "oom score": (folder / "oom_score_adj").read_text(),
        "cwd": os.readlink(folder / "cwd"),
        "arguments": (folder / "cmdline").read_bytes(),
        "environment": sorted((folder / "environ").read_bytes().split(b"\0")),
        "descriptors": descriptors,
        "namespaces": {name: os.readlink(folder / "ns" / name) for name in os.listdir(folder / "ns")},
    }


def by_template(pid: int) -> bool:
    parent = re.search(r"^PPid:\t(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]
    return templates.is_template(Path(f"/proc/{parent}/cmdline").read_bytes().replace(b"\0", b" ").decode())


def test_a_fork_is_as_if_the_caller_had_started_it(state_root, bundle, group):
    folder = bundle(["true"])
    found = []
    for template in (False, True):
        program = Program(state_root, template=template)
        program.env.pop("OCISHIM_TEMPLATE", None)
        caller = ["sh", "-c", CALLER, "sh", *program.command("start", "c1")]
        done = program.run(caller, folder, CGROUPS=" ".join(map(str, group)))
        program.addresses.add(done.stdout.decode())
        pid = program.pid()
        assert by_template(pid) == template
        found.append(inherited(pid))
        program.end()
    assert found[1] == found[0]
    assert (found[0]["oom score"], found[0]["nice"]) == ("301\n", "3")
    assert group[0].name in str(found[0]["cgroups"])
    assert found[0]["Cpus_allowed"].lstrip("0,") == "1"


def asked(program: Program, *caller: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """What ``-v`` of the program says to ``caller``, a command that executes the one behind it."""
    return program.run([*caller, *program.program, "-v"], program.root, **env)


@pytest.fixture
def program(state_root: Path) -> Iterator[Program]:
    """With a template, or not at all."""
    program = Program(state_root, template=True)
    yield program
    program.end()


@pytest.mark.parametrize(
    "caller",
    [
        ["unshare", "--net"],
        ["unshare", "--uts"],
        ["unshare", "--ipc"],
        ["unshare", "--cgroup"],
        ["unshare", "--pid", "--fork"],
        ["setpriv", "--no-new-privs"],
        ["setpriv", "--bounding-set", "-sys_boot"],
        ["setpriv", "--groups", "1234"],
        ["chrt", "--batch", "0"],
    ],
    ids=" ".join,
)
def test_whom_a_template_does_not_serve_the_interpreter_does(program, caller):
    done = asked(program, *caller)
    assert done.returncode == 75
    assert re.fullmatch(rb"containerd-shim-ocishim-v2: .*\n", done.stdout), done.stdout
    assert b"Version" in asked(program, *caller, OCISHIM_TEMPLATE="").stdout
    assert asked(program).returncode == 0


def test_a_caller_whose_libc_ignores_signals_of_its_own_is_served(program):
    # As children of glibc's posix_spawn(3) do, such as those of make and systemd: 32 and 33, which nobody may set.
    spawn = "import os, sys; pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ); "
    spawn += "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    done = asked(program, sys.executable, "-c", spawn)
    assert done.returncode == 0, done.stdout


def test_another_root_directory(program, tmp_path):
    """chroot(2) into the same tree, seen at another place."""
    done = asked(
        program,
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount --rbind / "$0"; exec chroot "$0" "$@"',
        str(tmp_path),
    )
    assert done.returncode == 75


def test_nobody_but_its_user_may_connect(program):
    modes = {path.stat().st_mode & 0o777 for path in templates.directory().iterdir() if path.is_socket()}
    assert modes == {0o600}
    assert templates.directory().stat().st_mode & 0o777 == 0o700


# Its own life, with an installation of the test's own.


def test_of_templates_that_start_at_once_one_stays(installation):
    for process in [installation.begin("-v") for _ in range(5)]:
        assert "Version" in ended(process).stdout
    installation.ready()
    assert len([path for path in installation.place.iterdir() if path.is_socket()]) == 1


def test_it_holds_nothing_of_whoever_started_it(installation, group):
    """Neither the cgroup nor streams, working directory, environment that matters, terminal or session."""
    caller = 'for group in $CGROUPS; do echo $$ > "$group/cgroup.procs"; done; "$@"; exit $?'
    subprocess.run(
        ["sh", "-c", caller, "sh", installation.folder / templates.LAUNCHER, "-v"],
        env={**os.environ, **installation.env, "CGROUPS": " ".join(map(str, group))},
        cwd=group[0],
        stdout=subprocess.PIPE,
        check=True,
    )
    bed.until(installation.running, "no template was started")
    pid = installation.template()
    bed.until(lambda: group[0].name not in Path(f"/proc/{pid}/cgroup").read_text(), "it stays in the cgroup")
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1)} == {"/dev/null"}
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(stat[3]) not in {os.getsid(0), 0}
    assert stat[4] == "0"


def test_changed_files_are_never_forked(installation):
    first = installation.ready()
    version = installation.folder / "lib" / "shim" / "__init__.py"
    with version.open("a") as file:
        file.write('\n__version__ = "changed"\n')
    # Whoever does it, the template's successor or the interpreter, does it with what is there now.
    for _ in range(3):
        assert "changed" in installation.run("-v").stdout
    assert installation.ready() != first
    assert "changed" in installation.run("-v", OCISHIM_TEMPLATE="only").stdout


def test_files_that_change_while_they_are_loaded():
    """Of what changed before there is a watch the times tell."""
    for began, expected in ((0.0, False), (time.time(), True)):
        watch, unchanged = template_module._watch(began)
        watch.close()
        assert unchanged == expected


def test_sigterm_ends_it_and_its_fork(installation):
    pid = installation.ready()
    os.kill(pid, signal.SIGTERM)
    bed.until(lambda: not installation.running(), "it does not end")
    # A fork that was rehearsing leaves what the next template removes.
    assert {path.suffix for path in installation.place.iterdir()} <= {".rehearsal"}


IDLE = """
import sys
sys.path.insert(0, sys.argv[1])
from shim.bootstrap import template
template._IDLE_S = 0.3
sys.exit(template.main(sys.argv[2]))
"""


def test_it_ends_when_nobody_comes(installation, tmp_path):
    path = installation.place / "0"
    command = [sys.executable, "-c", IDLE, installation.folder / "lib", path]
    subprocess.run(command, check=True, timeout=DEADLINE_S)
    # Its understudy goes on in its place.
    bed.until(lambda: list(installation.place.iterdir()) == [], "it does not end")


def test_forks_do_not_share_their_random_numbers(installation):
    """A module that loads with them all is not enough: the numbers are of Python's own, and made anew after fork(2)."""
    init = installation.folder / "lib" / "shim" / "bootstrap" / "containerd.py"
    text = init.read_text().replace("Version: {__version__}", "Version: {__import__('random').random()}")
    init.write_text(text)
    installation.ready()
    numbers = {installation.run("-v", OCISHIM_TEMPLATE="only").stdout for _ in range(4)}
    assert len(numbers) == 4
