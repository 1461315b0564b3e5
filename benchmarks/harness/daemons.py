"""``ocishim daemon`` on one core; whoever calls it has the others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_READY_S = 30


@contextmanager
def daemon(*lines: str) -> Iterator[Path]:
    """It is ready; its state directory, which has ``data``, too. ``lines`` are those of its table in the configuration."""
    base = "/run" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="ocishim-", dir=base) as folder:
        root = Path(folder)
        config = root / "config.toml"
        roots = f'state_root = "{root}"\ndata_root = "{root}/data"\n'
        config.write_text(roots + "\n".join(["[daemon]", *lines, ""]))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(f"{root}/ready")
            process = subprocess.Popen(
                [sys.executable, "-m", "shim", "--config", config, "daemon"],
                env={**os.environ, "NOTIFY_SOCKET": f"{root}/ready"},
                stderr=subprocess.DEVNULL,
            )
            os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
            ready.settimeout(_READY_S)
            assert ready.recv(4096).startswith(b"READY=1")
        yield root
        process.terminate()
        assert process.wait(_READY_S) == 0
