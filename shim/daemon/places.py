"""Who has how many of the connections that there may be at one time: nobody has all of them.

A connection is cheap to make and may rest for as long as a request has time, so whoever may connect could keep all others
out, root at its own socket included. Of all places one user has three quarters at most, the network as a whole, too, and
one address there half of them.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Places"]

_USER: Final = 3 / 4
_NETWORK: Final = 3 / 4
_ADDRESS: Final = 1 / 2


class Places:
    """Those that are taken. A client has either a ``user`` or an ``address``."""

    def __init__(self) -> None:
        self._taken: dict[object, tuple[Hashable, Hashable]] = {}

    def __len__(self) -> int:
        """How many are taken."""
        return len(self._taken)

    def is_free(self, most: int, *, user: Hashable = None, address: Hashable = None) -> bool:
        """Whether there is one for that client, of ``most`` that there may be."""
        taken = self._taken.values()
        if len(taken) >= most:
            return False
        if address is None:
            return sum(other == user for other, _ in taken) < _share(most, _USER)
        addresses = [other for _, other in taken if other is not None]
        return len(addresses) < _share(most, _NETWORK) and addresses.count(address) < _share(most, _ADDRESS)

    def take(self, *, user: Hashable = None, address: Hashable = None) -> Callable[[], None]:
        """One is taken; it is free again once what is returned was called, at least once."""
        place = object()
        self._taken[place] = user, address
        return partial(self._taken.pop, place, None)  # type: ignore[return-value]  # what it returns means nothing


def _share(most: int, part: float) -> int:
    return math.ceil(most * part)
