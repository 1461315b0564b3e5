"""OCI runtimes as command lines: runc, crun, runsc, and others that take runc's arguments."""

from shim.runtime.driver import Driver
from shim.runtime.failure import exec_exit_code
from shim.runtime.options import CheckpointOptions
from shim.runtime.registry import driver_for

__all__ = ["CheckpointOptions", "Driver", "driver_for", "exec_exit_code"]
