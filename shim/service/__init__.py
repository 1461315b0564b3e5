"""The services that a shim process answers: containerd's Task and Sandbox, and our own Shim."""

from shim.service.containers import Containers
from shim.service.publisher import Publisher
from shim.service.sandbox_service import SandboxService
from shim.service.sandboxes import Sandboxes
from shim.service.shim_service import ShimService
from shim.service.streaming import StreamingService
from shim.service.task_service import TaskService

__all__ = [
    "Containers",
    "Publisher",
    "SandboxService",
    "Sandboxes",
    "ShimService",
    "StreamingService",
    "TaskService",
]
