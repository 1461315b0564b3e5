"""How often one client may ask: a token bucket for each user or address.

Source: Vault's rate limit quotas; RFC 6585, section 4.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["RateLimit"]

# The least recent go first: a bucket that nobody has asked for so long is full again.
_MAX_BUCKETS: Final = 4096


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RateLimit:
    """``rate`` a second for long, ``burst`` at once; a rate of 0 is none. Knows no clock: it is told the time."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def take(self, client: Hashable, now: float) -> float:
        """0 when ``client`` may go on, else the seconds after which it may ask again."""
        if not self._rate:
            return 0.0
        bucket = self._buckets.pop(client, None) or _Bucket(self._burst, now)
        self._buckets[client] = bucket
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._rate
        bucket.tokens -= 1
        return 0.0

    @staticmethod
    def retry_after(wait_s: float) -> int:
        """``wait_s`` as the header has it: whole seconds, never 0."""
        return max(1, math.ceil(wait_s))
