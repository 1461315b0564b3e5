"""What is changed in containers while they run, for programs: see the README."""

from shim.sandbox.devices import Device, DeviceConfig, Devices

__all__ = ["Device", "DeviceConfig", "Devices"]
