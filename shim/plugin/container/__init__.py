"""Plugins in containers: what plugincontainer does for go-plugin, with images and networks of this host.

Nothing here speaks gRPC: a container is started, read from and ended without grpcio.
"""

from shim.plugin.container.attached import AttachedContainer
from shim.plugin.container.config import Config, EndpointSettings
from shim.plugin.container.container import PluginContainer

__all__ = ["AttachedContainer", "Config", "EndpointSettings", "PluginContainer"]
