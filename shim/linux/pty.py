"""Terminals: their size, and raw mode for the terminal a person sits at.

A size set on either end of a pty holds for both, and the kernel sends SIGWINCH to the foreground process group when it
changes. The modes of a container's pty are the container's; only the CLI's own terminal is made raw.

Source: ioctl_tty(2), TIOCGWINSZ and TIOCSWINSZ; termios(3), cfmakeraw.
"""

from __future__ import annotations

import errno
import termios
import tty
from typing import Any, NamedTuple, TypeAlias

__all__ = ["TerminalModes", "Winsize", "get_winsize", "make_raw", "restore", "set_winsize"]

# What tcgetattr returns and tcsetattr takes; nobody looks inside.
TerminalModes: TypeAlias = list[Any]

_USHRT_MAX = 0xFFFF


class Winsize(NamedTuple):
    """Rows and columns of a terminal; 0 means not known."""

    rows: int
    cols: int


def _as_os_error(error: termios.error) -> OSError:
    # termios.error is no OSError although it carries errno and text.
    return OSError(*error.args)


def get_winsize(fd: int) -> Winsize:
    """The size of the terminal.

    Raises:
        OSError: ENOTTY, ``fd`` is no terminal.
    """
    try:
        return Winsize(*termios.tcgetwinsize(fd))
    except termios.error as error:
        raise _as_os_error(error) from error


def set_winsize(fd: int, size: Winsize) -> None:
    """The terminal has ``size``; its foreground process group gets SIGWINCH if that is a change.

    Raises:
        OSError: ENOTTY, ``fd`` is no terminal; EINVAL, a number that does not fit 16 bits.
    """
    if not all(0 <= n <= _USHRT_MAX for n in size):
        raise OSError(errno.EINVAL, f"a terminal cannot have {size.rows} rows and {size.cols} columns")
    try:
        termios.tcsetwinsize(fd, size)
    except termios.error as error:
        raise _as_os_error(error) from error


def make_raw(fd: int) -> TerminalModes:
    """The terminal passes every byte in both directions unchanged; returns the modes it had, for ``restore``.

    Raises:
        OSError: ENOTTY, ``fd`` is no terminal.
    """
    try:
        saved = termios.tcgetattr(fd)
        # TCSANOW: TCSAFLUSH, the default, would throw away what was typed ahead.
        tty.setraw(fd, termios.TCSANOW)
    except termios.error as error:
        raise _as_os_error(error) from error
    return saved


def restore(fd: int, saved: TerminalModes) -> None:
    """The terminal has the modes that ``make_raw`` found.

    TCSANOW, not TCSADRAIN: a terminal stopped with Ctrl-S would make the drain wait for ever.

    Raises:
        OSError: the terminal is gone.
    """
    try:
        termios.tcsetattr(fd, termios.TCSANOW, saved)
    except termios.error as error:
        raise _as_os_error(error) from error
