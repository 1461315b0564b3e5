"""What a container uses, asked again and again: its files stay open while somebody asks.

Who asks does so every few seconds for as long as the container lives, or once. So the files are closed when nobody has
asked for a minute.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shim.cgroup.accounting import Accounting
    from shim.cgroup.stats import Stats

__all__ = ["Meter"]

_KEPT_S = 60.0


class Meter:
    """Reads one group. Owns its open files until ``close``. For the loop's thread."""

    def __init__(self, group: Accounting) -> None:
        self._gauge = group.gauge()
        self._asked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def read(self) -> Stats:
        """What the group has used until now.

        Raises:
            NotFound: there is no such v2 group.
        """
        loop = asyncio.get_running_loop()
        self._asked_at = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(_KEPT_S, self._look)
        return self._gauge.read()

    def close(self) -> None:
        """No file is open. They are opened again when somebody asks. Idempotent."""
        self._gauge.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        # One timer, set again when it was too early, costs less than moving it at every question.
        loop = asyncio.get_running_loop()
        if (left := self._asked_at + _KEPT_S - loop.time()) > 0:
            self._timer = loop.call_later(left, self._look)
        else:
            self.close()
