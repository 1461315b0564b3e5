"""What a running container is given of the host's: directories, files and device nodes."""

from shim.device.bind import bind, unbind
from shim.device.inside import Inside
from shim.device.node import Node, make_node, read_node, remove_node

__all__ = ["Inside", "Node", "bind", "make_node", "read_node", "remove_node", "unbind"]
