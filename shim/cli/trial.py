"""A container for a moment: the only way to know that a runtime works here.

Its root is empty but for the host's programs and libraries, mounted read-only, and it runs ``true``. It goes the whole
way, shim and all, in a state directory of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shim.cli.signals import Signals
from shim.containers import removal
from shim.containers.launch import Request, launched
from shim.errors import ShimError
from shim.oci.spec import default_spec

if TYPE_CHECKING:
    from shim.config import Config

__all__ = ["try_runtime"]

_RUNTIME_S = 20.0
_WAIT_S = 10.0
_HOST = ("/usr", "/bin", "/lib", "/lib64")


def try_runtime(config: Config, runtime: str) -> str:
    """Why no container runs under ``runtime`` here; empty when one did."""
    base = Path(tempfile.mkdtemp(prefix="doctor-", dir=config.state_root))
    try:
        bundle = _bundle(base / "bundle")
        request = Request(
            bundle=bundle,
            config=replace(config, state_root=str(base), runtime=runtime, runtime_timeout=_RUNTIME_S),
            id="trial",
            terminal=False,
            interactive=False,
            log_file="",
            foreground=False,
        )
        return _run(request)
    except (ShimError, OSError) as error:
        return str(error)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _bundle(folder: Path) -> Path:
    (folder / "rootfs").mkdir(parents=True)
    rootless = os.geteuid() != 0
    spec: dict[str, Any] = default_spec(
        ["/bin/true"], terminal=False, rootless=rootless, uid=os.geteuid(), gid=os.getegid()
    )
    spec["mounts"] += [
        {"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]}
        for path in _HOST
        if Path(path).is_dir()
    ]
    # A writable root: the runtime makes the mount points in it.
    spec["root"]["readonly"] = False
    (folder / "config.json").write_text(json.dumps(spec), encoding="ascii")
    return folder


def _run(request: Request) -> str:
    with Signals() as signals, launched(request, signals.interruptible) as made:
        # When this block raises, or is interrupted, nothing of the container is left.
        with signals.interruptible():
            wait = made.task.begin_wait(timeout=_WAIT_S)
            made.task.start()
            status = wait.result().exit_status
        said = ""
        with suppress(OSError):
            said = Path(made.record.log_file).read_text(encoding="utf-8", errors="replace").strip()
        removal.remove(made.container, force=True)
    return f"/bin/true ended with {status}: {said}" if status else ""
