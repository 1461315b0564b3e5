"""Containers and their processes: what runs, in which state, and how it ended."""

from shim.task.container import Container
from shim.task.creation import create
from shim.task.process import Snapshot
from shim.task.request import CreateRequest
from shim.task.states import State
from shim.task.workshop import Workshop

__all__ = ["Container", "CreateRequest", "Snapshot", "State", "Workshop", "create"]
