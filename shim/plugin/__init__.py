"""HashiCorp's go-plugin: plugins as processes and as containers, spoken to over gRPC."""

from shim.plugin.attached import AttachedContainer
from shim.plugin.config import Config, EndpointSettings
from shim.plugin.container import PluginContainer
from shim.plugin.local_runner import LocalRunner
from shim.plugin.runner import AttachedRunner, Runner, RunnerFactory

__all__ = [
    "AttachedContainer",
    "AttachedRunner",
    "Config",
    "EndpointSettings",
    "LocalRunner",
    "PluginContainer",
    "Runner",
    "RunnerFactory",
]
