"""What Prometheus is told about the API, in a registry of its own."""

from __future__ import annotations

import platform

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from shim import __version__

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)


class Metrics:
    """Counters of one daemon."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        info = Info("ocishim_build", "What runs.", registry=self.registry)
        info.info({"version": __version__, "python": platform.python_version()})
        self._requests = Counter(
            "ocishim_http_requests",
            "Requests that were answered.",
            ("endpoint", "operation", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "ocishim_http_request_seconds",
            "From the head of a request to its answer.",
            ("endpoint",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.running = Gauge(
            "ocishim_http_requests_running", "Requests that are being answered.", registry=self.registry
        )
        self.connections = Gauge(
            "ocishim_connections", "Connections that are open.", ("api",), registry=self.registry
        )
        self.refused = Counter(
            "ocishim_connections_refused",
            "Connections of users who may not have any.",
            ("api",),
            registry=self.registry,
        )

    def answered(self, endpoint: str, operation: str, status: int, seconds: float) -> None:
        """One request was."""
        self._requests.labels(endpoint, operation, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
