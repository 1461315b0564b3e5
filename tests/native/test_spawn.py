"""What a program finds when it starts, and what a caller is told when it does not."""

from __future__ import annotations

import errno
import os
import re
import resource
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shim._native import spawn

SH = b"/bin/sh"
EVERY_SIGNAL = sorted(set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})


def run(argv, env=(), **options):
    """Runs to the end; returns what the program wrote to fd 1 and its wait status."""
    reader, writer = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        pid, pidfd = spawn(argv, list(env), [null, writer, writer], **options)
    finally:
        os.close(writer)
        os.close(null)
    with os.fdopen(reader, "rb") as output:
        text = output.read()
    status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert status.si_pid == pid
    os.close(pidfd)
    return text.decode(), status.si_status if status.si_code == os.CLD_EXITED else -status.si_status


def test_program_gets_its_arguments_and_environment():
    output, status = run(
        [SH, b"-c", b'echo "$0 $1 $#"; env; exit 7', b"zero", b"one two", b""], [b"A=b c", b"E="]
    )
    assert status == 7
    lines = output.splitlines()
    assert lines[0] == "zero one two 2"
    assert {line for line in lines[1:] if not line.startswith(("PWD=", "_=", "SHLVL=", "OLDPWD="))} == {
        "A=b c",
        "E=",
    }


def test_argv_0_need_not_name_the_program_of_a_script(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho ran $0\n")
    script.chmod(0o755)
    assert run([os.fsencode(script)]) == (f"ran {script}\n", 0)


def test_pidfd_is_ours_and_closes_on_exec():
    pid, pidfd = spawn([SH, b"-c", b"exit 0"], [], [])
    assert not os.get_inheritable(pidfd)
    assert re.search(rf"^Pid:\t{pid}$", Path(f"/proc/self/fdinfo/{pidfd}").read_text(), re.MULTILINE)
    select.select([pidfd], [], [])
    assert os.waitpid(pid, 0) == (pid, 0)
    os.close(pidfd)


def test_child_has_the_given_fds_and_no_other():
    """Inheritable fds of ours, high and low, stay behind."""
    extra = [os.open(os.devnull, os.O_RDWR) for _ in range(5)]
    high = os.dup2(extra[0], 900)
    for fd in [*extra, high]:
        os.set_inheritable(fd, True)
    output, status = run([SH, b"-c", b"ls /proc/$$/fd; :"])
    for fd in [*extra, high]:
        os.close(fd)
    assert status == 0
    assert output.split() == ["0", "1", "2"]


def test_no_fds_at_all():
    pid, pidfd = spawn([SH, b"-c", b"test ! -e /proc/self/fd/0 && test ! -e /proc/self/fd/2"], [], [])
    os.close(pidfd)
    assert os.waitpid(pid, 0)[1] == 0


ARRANGE_0_TO_4 = """
import os, sys
from shim._native import spawn
files, order = sys.argv[1:6], [int(number) for number in sys.argv[6:]]
for number, file in enumerate(files):
    os.dup2(os.open(file, os.O_RDWR), number + 60)
for number in range(5):
    os.dup2(number + 60, number)
tell = rb"find /proc/$$/fd -type l -fprintf report '%f %l\\n'; :"
pid, pidfd = spawn([b"/bin/sh", b"-c", tell], [b"PATH=/bin:/usr/bin"], order)
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize(
    "order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (1, 2, 3, 4, 0), (2, 2, 2, 0, 0), (3, 0, 3, 1, 1)]
)
def test_fds_never_clobber_each_other(tmp_path, order):
    """The sources sit on the very numbers 0 to 4 that are the targets; a helper process arranges that."""
    files = [tmp_path / str(number) for number in range(5)]
    for file in files:
        file.touch()
    helper = [sys.executable, "-c", ARRANGE_0_TO_4, *files, *map(str, order)]
    subprocess.run(helper, check=True, timeout=30, cwd=tmp_path)
    found = dict(line.split() for line in (tmp_path / "report").read_text().splitlines())
    assert found == {str(target): str(files[source]) for target, source in enumerate(order)}


def test_child_starts_with_no_signal_blocked_or_ignored_or_caught():
    """Ours: one ignored, one caught, all but a few blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, EVERY_SIGNAL)
    old = {
        number: signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGHUP, signal.SIGPIPE, signal.SIGRTMAX)
    }
    old[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        output, _ = run([b"/bin/cat", b"/proc/self/status"])
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    masks = dict(re.findall(r"^(Sig(?:Pnd|Blk|Ign|Cgt)|ShdPnd):\s+([0-9a-f]+)$", output, re.MULTILINE))
    assert set(masks.values()) == {"0" * 16}
    assert len(masks) == 5


def test_our_own_mask_is_as_before():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    mine = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    run([b"/bin/true"])
    with pytest.raises(FileNotFoundError):
        run([b"/missing"])
    assert signal.pthread_sigmask(signal.SIG_SETMASK, before) == mine


def test_cwd(tmp_path):
    output, _ = run([b"/bin/pwd"], cwd=os.fsencode(tmp_path))
    assert output == f"{tmp_path}\n"


def test_setsid():
    output, _ = run([SH, b"-c", b"echo $$; cut -d' ' -f5,6 /proc/$$/stat"], setsid=True)
    pid, group, session = output.split()
    assert pid == group == session
    output, _ = run([SH, b"-c", b"cut -d' ' -f6 /proc/$$/stat"])
    assert int(output) == os.getsid(0)


def test_the_limit_of_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted, seen in ((-1, soft), (100, 100), (hard, hard)):
        output, _ = run([SH, b"-c", b"ulimit -Sn; ulimit -Hn"], open_files=wanted)
        assert output.split() == [str(seen), str(hard)]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


FAILURES = {
    "missing program": (
        ["/missing/program"],
        {},
        errno.ENOENT,
        "No such file or directory: '/missing/program'",
    ),
    "not executable": (["{tmp}/plain"], {}, errno.EACCES, "Permission denied: '{tmp}/plain'"),
    "a folder": (["{tmp}/"], {}, errno.EACCES, "Permission denied: '{tmp}/'"),
    "no program at all": (["{tmp}/noise"], {}, errno.ENOEXEC, "Exec format error: '{tmp}/noise'"),
    "interpreter missing": (["{tmp}/script"], {}, errno.ENOENT, "No such file or directory: '{tmp}/script'"),
    "cwd missing": (
        ["/bin/true"],
        {"cwd": b"/missing"},
        errno.ENOENT,
        "chdir: No such file or directory: '/missing'",
    ),
    "cwd no folder": (["/bin/true"], {"cwd": b"/bin/sh"}, errno.ENOTDIR, "chdir: Not a directory: '/bin/sh'"),
    "not a cgroup": (
        ["/bin/true"],
        {"cgroup_procs_fd": 9999},
        errno.EBADF,
        "cgroup.procs: Bad file descriptor: '/bin/true'",
    ),
    "no such signal": (
        ["/bin/true"],
        {"pdeathsig": 99},
        errno.EINVAL,
        "prctl: Invalid argument: '/bin/true'",
    ),
    "fd not open": (["/bin/true"], {"fds": [0, 9999]}, errno.EBADF, "dup2: Bad file descriptor: '/bin/true'"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failure_names_the_step_and_leaves_nothing(tmp_path, case):
    argv, options, number, text = FAILURES[case]
    (tmp_path / "plain").touch(0o644)
    for name, content in (("noise", "noise"), ("script", "#!/missing/interpreter\n")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    program = [os.fsencode(word.format(tmp=tmp_path)) for word in argv]
    fds = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=re.escape(text.format(tmp=tmp_path))) as caught:
        spawn(program, [], **{"fds": [], **options})
    assert caught.value.errno == number
    assert set(os.listdir("/proc/self/fd")) == fds
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    ("argv", "env", "cwd"),
    [
        ([], [], None),
        ([b"sh"], [], None),
        ([b"/bin/true", b"a\0b"], [], None),
        ([b"/bin/true"], [b"A=\0"], None),
        ([b"/bin/true"], [], b"/\0"),
    ],
)
def test_what_execve_could_not_say_is_refused(argv, env, cwd):
    with pytest.raises(ValueError, match=r"NUL|not a path"):
        spawn(argv, env, [], cwd=cwd)


def test_argument_list_too_long():
    with pytest.raises(OSError, match="Argument list too long"):
        spawn([b"/bin/true", *[b"x" * 100_000] * 100], [], [])


def test_out_of_fds_for_the_move_is_told():
    """Seen in a helper whose limit leaves no number above the targets."""
    script = """
import os, resource
from shim._native import spawn
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
try:
    spawn([b"/bin/true"], [], [0] * 20)
except OSError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "[Errno 22] dup2: Invalid argument: '/bin/true'\n"


def test_child_dies_with_its_parent():
    """The parent is a process of its own that is killed; the grandchild's end shows by the pipe it holds."""
    reader, writer = os.pipe()
    script = f"""
import os, signal
from shim._native import spawn
spawn([b"/bin/sleep", b"1000"], [], [0, {writer}], pdeathsig=signal.SIGKILL)
os.close({writer})
os.kill(os.getpid(), signal.SIGKILL)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], pass_fds=[writer])
    os.close(writer)
    assert parent.wait(30) == -signal.SIGKILL
    assert select.select([reader], [], [], 20)[0]
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_the_parent_of_pdeathsig_is_the_thread():
    """As prctl(2) has it; hence whoever uses it spawns from a thread that stays."""
    pids = []
    command = [b"/bin/sleep", b"1000"]
    thread = threading.Thread(target=lambda: pids.append(spawn(command, [], [], pdeathsig=signal.SIGTERM)))
    thread.start()
    thread.join()
    pid, pidfd = pids[0]
    assert os.waitpid(pid, 0)[1] == signal.SIGTERM
    os.close(pidfd)


@pytest.mark.root
def test_child_is_in_its_cgroup_before_its_program_starts():
    mine = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    root = next(
        (
            p
            for p in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
            if (p / "cgroup.procs").exists()
        ),
        None,
    )
    if root is None:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    group = root / mine[4:] / f"spawn-test-{os.getpid()}"
    group.mkdir()
    try:
        procs = os.open(group / "cgroup.procs", os.O_WRONLY)
        output, _ = run([b"/bin/cat", b"/proc/self/cgroup"], cgroup_procs_fd=procs)
        os.close(procs)
    finally:
        group.rmdir()
    assert f"0::{mine[3:].rstrip('/')}/{group.name}\n" in output


def test_threads_spawn_at_once():
    """Each gets its own child, its own pidfd and its own failure."""
    wrong = []

    def work(number):
        for turn in range(25):
            if turn % 5 == 4:
                try:
                    spawn([b"/missing/%d" % number], [], [])
                    wrong.append("no error")
                except FileNotFoundError as error:
                    if error.filename != f"/missing/{number}":
                        wrong.append(error)
                continue
            output, status = run([SH, b"-c", b"echo $$ $0; exit $0", b"%d" % number])
            if (output.split()[1], status) != (str(number), number):
                wrong.append((output, status))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_thousand_starts_leave_nothing():
    def once():
        pid, pidfd = spawn([b"/bin/true"], [b"A=b"], [0, 1, 2])
        os.waitpid(pid, 0)
        os.close(pidfd)
        with pytest.raises(FileNotFoundError):
            spawn([b"/missing"], [b"A=b"], [0, 1, 2])

    def counted():
        maps = len(Path("/proc/self/maps").read_text().splitlines())
        return len(os.listdir("/proc/self/fd")), maps, int(Path("/proc/self/statm").read_text().split()[1])

    for _ in range(50):
        once()
    fds, maps, pages = counted()
    for _ in range(500):
        once()
    assert counted()[:2] == (fds, maps)
    assert counted()[2] - pages < 256
