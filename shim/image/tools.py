"""Programs of the host that this package calls: found, run to their end, told apart by what they say.

They are children of the thread that calls, and are killed with it: nobody writes on once we are gone.

Source: setpriv(1), PR_SET_PDEATHSIG in prctl(2).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from io import BufferedReader
from typing import IO, TYPE_CHECKING

from shim.errors import FailedPrecondition, NotFound, ShimError
from shim.runtime.logs import last_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["need", "reading", "run"]

_TAIL = 4096
_CHUNK = 1 << 16
# As the Go programs write that have logrus.
_LOGGED = re.compile(r'\bmsg="(.+)"$')
# Of work that is as long as an image is large; it ends sooner with whoever waits for it.
_DEADLINE_S = 3600.0


def need(program: str, package: str, why: str) -> str:
    """The path of ``program``.

    Raises:
        NotFound: it is not installed; says which package has it.
    """
    path = shutil.which(program)
    if path is None:
        raise NotFound(f"{why} needs {program}, which is not installed: apt-get install {package}")
    return path


def _bounded(argv: Sequence[str]) -> list[str]:
    """``argv`` without the right to make devices, to be killed with us."""
    setpriv = need("setpriv", "util-linux", argv[0])
    limits = ["--bounding-set", "-mknod"] if os.geteuid() == 0 else []
    return [setpriv, "--pdeathsig", "KILL", *limits, "--", *argv]


@contextmanager
def reading(argv: Sequence[str], cwd: Path, what: str) -> Iterator[BufferedReader]:
    """What ``argv`` prints, as it prints it; at the end of the body it has ended, and well.

    Raises:
        FailedPrecondition: it has failed; with its last words, after ``what``. Also where the body fails because of that.
    """
    with tempfile.TemporaryFile() as said, _started(argv, cwd, said) as process:
        output = process.stdout
        assert isinstance(output, BufferedReader)  # noqa: S101 - for the type checker
        try:
            yield output
        except ShimError:
            if output.read(1):
                raise  # the fault is not in what it could not say
            _ended_well(process, said, what)
            raise
        output.close()
        _ended_well(process, said, what)


def run(argv: Sequence[str], cwd: Path, what: str) -> None:
    """``argv`` has done its work; what it prints is nobody's business.

    Raises:
        FailedPrecondition: it has failed; with its last words, after ``what``.
    """
    with reading(argv, cwd, what) as output:
        while output.read(_CHUNK):
            pass


@contextmanager
def _started(argv: Sequence[str], cwd: Path, said: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(_bounded(argv), cwd=cwd, stdin=null, stdout=pipe, stderr=said) as process:  # noqa: S603 - ours
        deadline = threading.Timer(_DEADLINE_S, process.kill)
        deadline.start()
        try:
            yield process
        finally:
            deadline.cancel()
            process.kill()  # nothing happens to one that has ended


def _ended_well(process: subprocess.Popen[bytes], said: IO[bytes], what: str) -> None:
    if process.wait():
        size = said.seek(0, os.SEEK_END)
        said.seek(max(0, size - _TAIL))
        words = last_words(said.read()).lstrip("\u2a2f ")
        if logged := _LOGGED.search(words):
            words = logged[1].replace('\\"', '"')
        raise FailedPrecondition(f"{what}: {words or f'it ended with {process.returncode}'}")
