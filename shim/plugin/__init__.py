"""HashiCorp's go-plugin: plugins as processes and as containers, spoken to over gRPC."""

from shim.plugin.local_runner import LocalRunner
from shim.plugin.runner import AttachedRunner, Runner, RunnerFactory

__all__ = ["AttachedRunner", "LocalRunner", "Runner", "RunnerFactory"]
