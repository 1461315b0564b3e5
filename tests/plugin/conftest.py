from __future__ import annotations

from support.coroutines import pytest_pyfunc_call
from support.plugin_containers import go_image, parent, plugin, settings, socket_dir, store

__all__ = ["go_image", "parent", "plugin", "pytest_pyfunc_call", "settings", "socket_dir", "store"]
