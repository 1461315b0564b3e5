"""The launcher's side of what it and the template say to each other: a template of the test's own answers it, or does not."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import bed, templates
from support.client_streams import DEADLINE_S
from support.installation import impatient

# Notes how a template would be started; everything else is answered in the interpreter's place.
INTERPRETER = """#!/bin/sh
if [ "$1" = template ]; then
    ls -l /proc/$$/fd > "$0.fds"; pwd > "$0.cwd"
    echo "$2" > "$0.part"; exec mv "$0.part" "$0.address"
fi
echo "interpreter: $*"; exit 9
"""
BY_INTERPRETER = (9, "interpreter: -id c1 start\n", "")


class Launcher:
    """A launcher in a folder of its own, with a script for interpreter."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / templates.LAUNCHER
        shutil.copy2(impatient(), self.program)
        self.script = folder / templates.INTERPRETER
        self.script.write_text(INTERPRETER)
        self.script.chmod(0o755)
        (folder / "t").mkdir(mode=0o700)
        self.env = {"PATH": os.environ["PATH"], "OCISHIM_TEMPLATE_DIR": f"{folder}/t"}

    def begin(self, *words: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.program, *(words or ("-id", "c1", "start"))],
            env={**self.env, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, **env: str) -> tuple[int, str, str]:
        return ended(self.begin(*words, **env))

    def address(self, **env: str) -> str:
        """Where it looks for a template: it has just tried to start one."""
        note = Path(f"{self.script}.address")
        note.unlink(missing_ok=True)
        self.run(**env)
        bed.until(note.exists, "no template was started")
        return note.read_text().strip()

    def noted(self, name: str) -> str:
        return Path(f"{self.script}.{name}").read_text()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


@pytest.fixture
def launcher(state_root: Path) -> Iterator[Launcher]:
    yield Launcher(state_root)
    # What stands for a template may still write its notes.
    bed.until(lambda: not templates.named(f"{state_root}/"), "a script runs on")


@pytest.fixture
def template(launcher: Launcher) -> Iterator[socket.socket]:
    """Listens where the launcher looks."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(launcher.address())
        listener.listen()
        listener.settimeout(DEADLINE_S)
        yield listener


def accepted(template: socket.socket) -> socket.socket:
    """The launcher's connection; it is told so."""
    connection, _ = template.accept()
    connection.send(b"R")
    return connection


def received(connection: socket.socket) -> list[bytes]:
    """The environment; the caller's streams are not held."""
    _, environment, fds = request(connection)
    for fd in fds:
        os.close(fd)
    return environment


def request(connection: socket.socket) -> tuple[list[bytes], list[bytes], list[int]]:
    """Arguments, environment, descriptors."""
    data, fds, _, _ = socket.recv_fds(connection, 1 << 20, 4)
    size, count = struct.unpack_from("=II", data)
    while len(data) < 8 + size:
        data += connection.recv(1 << 20)
    words = data[8:].split(b"\0")
    assert words.pop() == b""
    return words[:count], words[count:], fds


def test_without_a_template_the_interpreter_does_it(launcher):
    assert launcher.run() == BY_INTERPRETER


def test_a_template_is_started_that_holds_nothing(launcher):
    """Not the streams of the caller, who waits for their end, nor its working directory."""
    address = launcher.address()
    assert Path(address).parent == Path(launcher.env["OCISHIM_TEMPLATE_DIR"])
    assert launcher.noted("cwd") == "/\n"
    assert "pipe:" not in launcher.noted("fds")
    assert launcher.noted("fds").count("/dev/null") >= 2


def test_the_address_tells_builds_and_what_python_reads_apart(launcher, tmp_path):
    address = launcher.address()
    assert launcher.address(OTHER="x") == address
    assert launcher.address(PYTHONPATH="/x") != address
    assert launcher.address(LD_LIBRARY_PATH="/x") != address
    # A new installation replaces the file.
    shutil.copy2(launcher.program, tmp_path / "new")
    shutil.move(tmp_path / "new", launcher.program)
    assert launcher.address() != address


@pytest.mark.root
def test_the_address_tells_mount_namespaces_apart(launcher):
    address = launcher.address()
    note = Path(f"{launcher.script}.address")
    note.unlink()
    subprocess.run(["unshare", "--mount", launcher.program, "x"], env=launcher.env, check=False)
    bed.until(note.exists, "no template was started")
    assert note.read_text().strip() != address


def test_off_asks_nobody(launcher, template):
    assert launcher.run(OCISHIM_TEMPLATE="off") == BY_INTERPRETER
    template.settimeout(0)
    with pytest.raises(BlockingIOError):
        template.accept()


def test_only_never_takes_the_interpreter(launcher):
    assert launcher.run(OCISHIM_TEMPLATE="only") == (75, "", "")


def test_the_request_is_all_that_a_program_gets(launcher, template):
    process = launcher.begin("-id", "", "ä b", VARIABLE="ü\n")
    connection = accepted(template)
    with connection:
        arguments, environment, fds = request(connection)
        assert arguments == [os.fsencode(launcher.program), b"-id", b"", "ä b".encode()]
        assert {*environment} == {
            os.fsencode(f"{k}={v}") for k, v in {**launcher.env, "VARIABLE": "ü\n"}.items()
        }
        assert os.path.samestat(os.fstat(fds[0]), os.stat("."))
        process.stdin.write("question")
        process.stdin.close()
        process.stdin = None
        assert os.read(fds[1], 100) == b"question"
        os.write(fds[2], b"answer")
        os.write(fds[3], b"complaint")
        for fd in fds:
            os.close(fd)
        connection.send(b"T")
        connection.send(b"\x2a")
        assert ended(process) == (42, "answer", "complaint")


def test_a_large_environment(launcher, template):
    process = launcher.begin(**{f"V{i}": "x" * 100_000 for i in range(10)})
    connection = accepted(template)
    with connection:
        assert len(received(connection)) == 12
        connection.send(b"T\0")
    assert ended(process)[0] == 0


@pytest.mark.parametrize("answer", [b"", b"no", b"\0"])
def test_a_refusal_leaves_it_to_the_interpreter(launcher, template, answer):
    process = launcher.begin()
    connection = accepted(template)
    with connection:
        connection.send(answer)
        received(connection)
    assert ended(process) == BY_INTERPRETER


def test_a_refusal_is_told_to_who_wants_no_interpreter(launcher, template):
    process = launcher.begin(OCISHIM_TEMPLATE="only")
    connection = accepted(template)
    with connection:
        received(connection)
        connection.send(b"because")
    assert ended(process) == (75, "", "containerd-shim-ocishim-v2: because\n")


def test_a_template_that_ends_before_it_accepts(launcher, template):
    process = launcher.begin()
    os.set_blocking(template.fileno(), True)
    bed.until(lambda: waits_for_an_answer(process.pid), "the launcher does not connect")
    template.close()
    assert ended(process) == BY_INTERPRETER


def waits_for_an_answer(pid: int) -> bool:
    """In recvfrom(2)."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] == str(RECVFROM)


RECVFROM = {"x86_64": 45, "aarch64": 207}[os.uname().machine]


def test_nothing_is_sent_to_who_does_not_accept(launcher, template):
    """Whoever waits for the end of our output must not wait for a template that hangs."""
    assert launcher.run() == BY_INTERPRETER
    connection, _ = template.accept()
    with connection:
        assert connection.recv(1) == b""


def test_what_was_taken_is_not_done_again(launcher, template):
    process = launcher.begin()
    connection = accepted(template)
    with connection:
        received(connection)
        connection.send(b"T")
    code, out, err = ended(process)
    assert (code, out) == (1, "")
    assert (
        err == "containerd-shim-ocishim-v2: the process that has taken the request ended without an answer\n"
    )


def test_a_template_that_comes_too_late_is_told_so(launcher, template):
    """Whoever the launcher has given up on cannot take the request any more."""
    process = launcher.begin()
    connection = accepted(template)
    with connection:
        received(connection)
        assert ended(process) == BY_INTERPRETER
        with pytest.raises(BrokenPipeError):
            connection.send(b"T")


def test_a_request_that_is_taken_may_last(launcher, template):
    """Longer than the launcher waits for somebody to take it."""
    process = launcher.begin()
    connection = accepted(template)
    with connection:
        received(connection)
        connection.send(b"T")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        connection.send(b"\x07")
        assert ended(process)[0] == 7


def test_a_signal_ends_it_and_the_connection(launcher, template):
    process = launcher.begin()
    connection = accepted(template)
    with connection:
        received(connection)
        connection.send(b"T")
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == -signal.SIGTERM
        with suppress(ConnectionResetError):  # it has not read the byte
            assert connection.recv(1) == b""


def test_no_descriptor_is_left_for_it(launcher, template):
    """It cannot ask, and leaves it to the interpreter, which here is a shell that wants some, too."""
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 4; exec "$@"', "sh", launcher.program, "start"],
        env=launcher.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("stream", ["0<&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_standard_streams_that_are_closed(launcher, template, stream):
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {stream}', "sh", launcher.program, "start"],
        env=launcher.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {2, 9}  # the shell minds that it cannot write
    template.settimeout(0)
    with pytest.raises(BlockingIOError):
        template.accept()


def test_a_socket_of_somebody_else_is_not_asked(launcher, template):
    """Its listener has another uid."""
    if not bed.is_root():
        pytest.skip("needs root to be somebody else")
    path = template.getsockname()
    template.close()
    os.unlink(path)
    code = (
        f"import os, socket; s = socket.socket(socket.AF_UNIX); s.bind({path!r}); os.setuid(65534); s.listen();"
        "print(flush=True); s.accept()"
    )
    with subprocess.Popen(
        [os.path.realpath("/usr/bin/python3"), "-c", code], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline()
        try:
            assert launcher.run() == BY_INTERPRETER
        finally:
            other.kill()


@pytest.mark.parametrize("missing", [True, False])
def test_an_interpreter_that_cannot_be_executed(launcher, missing):
    launcher.script.unlink() if missing else launcher.script.chmod(stat.S_IRUSR)
    code, out, err = launcher.run(OCISHIM_TEMPLATE="off", PATH="/nowhere")
    assert (code, out, err.count("\n")) == (127, "", 1)
    assert err.startswith("containerd-shim-ocishim-v2: ocishim-containerd cannot be executed: ")


def test_a_copy_finds_the_interpreter_on_the_path(launcher, tmp_path):
    """Clients of containerd may name any file as the runtime; some copy the program."""
    launcher.env["PATH"] = f"/nowhere:{launcher.program.parent}:{launcher.env['PATH']}"
    launcher.program = Path(shutil.copy2(launcher.program, tmp_path / "copied"))
    assert launcher.run() == BY_INTERPRETER
    assert launcher.address().startswith(launcher.env["OCISHIM_TEMPLATE_DIR"])
