"""HashiCorp's go-plugin: plugins as processes and as containers, spoken to over gRPC.

    from shim.plugin import HandshakeConfig, LocalRunner
    from shim.plugin.client import ClientConfig, PluginClient

    config = ClientConfig(HandshakeConfig("BASIC_PLUGIN", "hello"), auto_mtls=True)
    async with PluginClient(config, lambda env, socket_dir: LocalRunner(["./greeter"], env)) as plugin:
        await plugin.ping()

What talks to plugins needs grpcio and cryptography (``pip install 'ocishim[daemon]'``); what is here runs them without.
"""

from shim.plugin.container import AttachedContainer, Config, EndpointSettings, PluginContainer
from shim.plugin.local_process import LocalProcess
from shim.plugin.local_runner import LocalRunner
from shim.plugin.protocol.handshake import HandshakeConfig
from shim.plugin.runner import AttachedRunner, Runner, RunnerFactory

__all__ = [
    "AttachedContainer",
    "AttachedRunner",
    "Config",
    "EndpointSettings",
    "HandshakeConfig",
    "LocalProcess",
    "LocalRunner",
    "PluginContainer",
    "Runner",
    "RunnerFactory",
]
