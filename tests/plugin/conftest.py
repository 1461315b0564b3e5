from __future__ import annotations

from support.coroutines import pytest_pyfunc_call
from support.plugin_containers import go_image, parent, plugin, python_image, settings, socket_dir, store

__all__ = [
    "go_image",
    "parent",
    "plugin",
    "pytest_pyfunc_call",
    "python_image",
    "settings",
    "socket_dir",
    "store",
]
