"""Checks in a fork of the test process, for what cannot be undone in it."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable


def in_fork(check: Callable[[], None]) -> None:
    """``check`` passes in a fork of this process; what fails there is in the message."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            check()
            status = 0
        except BaseException:  # noqa: BLE001 - it is the answer
            os.write(writing, traceback.format_exc().encode()[-4096:])
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as said:
        text = said.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, text
