"""Containers on a terminal: a real pty in front of the program, a person's keys in it."""

from __future__ import annotations

import os
import re
import subprocess
import termios

import pexpect
import pytest
from support.api_daemon import daemon

__all__ = ["daemon"]  # a fixture

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

PROMPT = r"/ # (?:\x1b\[6n)?"
_TIMEOUT_S = 30


class Person:
    """Someone at a terminal on which ``words`` were started."""

    def __init__(self, program, *words, rows=30, columns=100):
        command, *options = [*program, *map(str, words)]
        # A shell in front, as in life: it looks at the terminal after the program has ended.
        script = 'trap : INT; "$@"; echo "code=$?"; stty -a | grep -q " icanon" && echo restored'
        self._child = pexpect.spawn(
            "sh",
            ["-c", script, "sh", command, *options],
            dimensions=(rows, columns),
            timeout=_TIMEOUT_S,
            encoding="utf-8",
            env={**os.environ, "TERM": "xterm"},
        )

    def sees(self, pattern):
        self._child.expect(pattern)
        return self._child.match

    def types(self, text):
        self._child.send(text)

    def resizes(self, rows, columns):
        self._child.setwinsize(rows, columns)

    def is_raw(self):
        return not termios.tcgetattr(self._child.child_fd)[3] & termios.ICANON

    def ends(self):
        """The program's exit code; the terminal is as it was."""
        code = int(self.sees(r"code=(\d+)")[1])
        self.sees("restored")
        self._child.expect(pexpect.EOF)
        self._child.close()
        return code


def test_a_shell_session(program, bundle, runtime):
    person = Person(program, "run", "-t", "--rm", "--runtime", runtime, bundle(["sh"]))
    person.sees(PROMPT)
    assert person.is_raw()
    person.types("stty size\r")
    person.sees("30 100")
    person.sees(PROMPT)
    person.resizes(40, 132)
    person.types("stty size\r")
    person.sees("40 132")
    person.sees(PROMPT)
    person.types("sleep 1000\r")
    person.sees("sleep 1000")
    person.types("\x03")
    person.sees(PROMPT)
    person.types("echo $((6 * 7))\r")
    person.sees(r"\b42\b")
    person.types("exit 7\r")
    assert person.ends() == 7


def test_left_and_come_back_to(program, bundle, ocishim):
    person = Person(program, "run", "-t", bundle(["sh"]), "c1")
    person.sees(PROMPT)
    person.types("kept=here\r")
    person.sees(PROMPT)
    person.types("\x10\x11")
    person.sees("detached from container c1")
    assert person.ends() == 0
    person = Person(program, "attach", "c1", rows=20, columns=70)
    person.types("stty size; echo $kept\r")
    person.sees("20 70")
    person.sees("here")
    person.types("\x04")
    assert person.ends() == 0
    assert ocishim("delete", "c1").code == 0


def test_other_detach_keys_and_none(program, bundle, ocishim):
    person = Person(program, "run", "-t", "--detach-keys", "ctrl-x,x", bundle(["sh"]), "c1")
    person.sees(PROMPT)
    person.types("\x18x")
    assert person.ends() == 0
    person = Person(program, "attach", "--detach-keys", "", "c1")
    person.types("exit 3\r")
    assert person.ends() == 3
    assert ocishim("delete", "c1").code == 0


def test_an_exec_on_a_terminal(program, bundle, ocishim):
    assert ocishim("run", "-d", bundle(["sleep", "1000"]), "c1").code == 0
    person = Person(program, "exec", "-t", "c1", "sh")
    person.sees(PROMPT)
    person.types("stty size\r")
    person.sees("30 100")
    person.types("\x10\x11")
    again = person.sees(r"to come back: ocishim (attach --exec exec-\w+ c1)")[1]
    assert person.ends() == 0
    person = Person(program, *again.split())
    person.types("tty; exit 5\r")
    person.sees("/dev/pts/")
    assert person.ends() == 5
    assert list((ocishim.state_root / "containers" / "c1" / "exec").iterdir()) == []
    assert ocishim("delete", "--force", "c1").code == 0


def test_a_failure_leaves_the_terminal_alone(program, bundle):
    person = Person(program, "run", "-t", bundle(["no-such-program"]))
    person.sees("ocishim: .*no-such-program")
    assert person.ends() == 127


def test_a_terminal_without_a_person(program, bundle):
    """Our stdin is a pipe: it is typed into the container's terminal, and its end is ctrl-d."""
    command = [*program, "run", "-t", "--rm", bundle(["sh", "-c", "tty; cat; echo end"])]
    result = subprocess.run(command, input=b"typed\n", capture_output=True, check=True)
    lines = re.sub(r"\x1b\[6n", "", result.stdout.decode()).split("\r\n")
    # What is typed is echoed at once, which may be before the first command has run.
    assert any(line.startswith("/dev/pts/") for line in lines)
    assert lines[-3:-1] == ["typed", "end"]


def test_stats_have_a_screen_of_their_own(program, bundle, ocishim):
    assert ocishim("run", "-d", bundle(["sleep", "1000"]), "c1").code == 0
    person = Person(program, "stats", "--watch")
    person.sees(r"\x1b\[\?1049h")  # the alternate screen
    person.sees("c1 ")
    person.types("\x03")
    assert person.ends() == 0
    assert ocishim("delete", "--force", "c1").code == 0


def test_so_have_those_of_a_daemon(program, bundle, daemon):
    words = [*program, "--host", f"unix://{daemon.grpc_socket}"]
    subprocess.run([*words, "run", "-d", bundle(["sleep", "1000"]), "c1"], check=True)
    person = Person(words, "stats", "--watch")
    person.sees(r"\x1b\[\?1049h")
    person.sees("c1 ")
    person.types("\x03")
    assert person.ends() == 0
    subprocess.run([*words, "delete", "--force", "c1"], check=True)
