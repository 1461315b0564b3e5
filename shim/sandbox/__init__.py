"""Sandboxes: containers that share a network, and what can be changed in them while they run.

    sandbox = await create_sandbox(SandboxConfig("web", containers=(ContainerConfig("c1", bundle="/srv/b"),)))
    await sandbox.add_interface(InterfaceConfig("eth1", bridge="br0"))

``fetch_sandbox`` finds it again from any other process.
"""

from shim.net import Interface, InterfaceConfig, Route, parse_address, parse_route
from shim.sandbox.config import ContainerConfig, SandboxConfig
from shim.sandbox.creation import clear_sandbox, create_sandbox, fetch_sandbox, list_sandboxes
from shim.sandbox.devices import Device, DeviceConfig, Devices
from shim.sandbox.sandbox import Sandbox
from shim.sandbox.states import State
from shim.sandbox.status import ContainerStatus, Failure, Process, SandboxStatus
from shim.sandbox.streams import IOStream

__all__ = [
    "ContainerConfig",
    "ContainerStatus",
    "Device",
    "DeviceConfig",
    "Devices",
    "Failure",
    "IOStream",
    "Interface",
    "InterfaceConfig",
    "Process",
    "Route",
    "Sandbox",
    "SandboxConfig",
    "SandboxStatus",
    "State",
    "clear_sandbox",
    "create_sandbox",
    "fetch_sandbox",
    "list_sandboxes",
    "parse_address",
    "parse_route",
]
