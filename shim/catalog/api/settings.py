"""What can be set about the HTTP API, whoever serves it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """See ``DaemonConfig``, which has the same in the configuration's words."""

    require_request_header: bool = False
    max_request_bytes: int = 1 << 18
    rate_limit: float = 1000.0
    rate_burst: int = 2000
    request_timeout_s: float = 30.0
    open_metrics: bool = False
