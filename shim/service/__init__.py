"""The services that a shim process answers: containerd's Task, and our own Shim."""

from shim.service.containers import Containers
from shim.service.publisher import Publisher
from shim.service.shim_service import ShimService
from shim.service.task_service import TaskService

__all__ = ["Containers", "Publisher", "ShimService", "TaskService"]
