"""The programs of an installation, and the templates of this session: where they listen, and their end.

What a test starts may start a template, which outlives the test and is no leak; it ends with the session.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from support import bed

LAUNCHER = "containerd-shim-ocishim-v2"
INTERPRETER = "ocishim-containerd"


def _base() -> str | None:
    return "/run" if bed.is_root() else os.environ.get("XDG_RUNTIME_DIR")


@cache
def directory() -> Path:
    """Of the templates of this session; short enough for sockets."""
    return Path(tempfile.mkdtemp(prefix="ocishim-t", dir=_base()))


def begin() -> None:
    """Templates listen in a place of this session's own, unless whoever started it says otherwise."""
    if "OCISHIM_TEMPLATE_DIR" not in os.environ:
        os.environ["OCISHIM_TEMPLATE_DIR"] = str(directory())


def end() -> None:
    """No template of ``begin`` is left, nor a file of ``install``."""
    if directory.cache_info().currsize:
        for pid in running(directory()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        bed.until(lambda: not running(directory()), "a template does not end")
        shutil.rmtree(directory())
    if installed.cache_info().currsize:
        shutil.rmtree(installed())


def running(place: Path) -> list[int]:
    """The pids of the templates that listen in ``place``, and of their forks that wait."""
    return [pid for pid, command in named(f" template {place}/").items() if is_template(command)]


def named(words: str) -> dict[int, str]:
    """The command lines with these words, by pid."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if words in command:
                found[int(folder.name)] = command
    return found


def is_template(command: str) -> bool:
    """Whether this is the command line of a template, or of a fork that waits."""
    return " template /" in command and (INTERPRETER in command or "shim.bootstrap.program" in command)


@cache
def installed() -> Path:
    """A folder with both programs, as in the bin of an installation; where the package is only to be imported there is none."""
    folder = Path(tempfile.mkdtemp(prefix="ocishim-bin", dir=_base()))
    install(folder)
    return folder


def install(folder: Path) -> None:
    """The programs are in ``folder``, with a package of their own: whoever edits the checkout ends no template of theirs."""
    shutil.copy2(bed.CHECKOUT / ".venv" / "bin" / LAUNCHER, folder / LAUNCHER)
    shutil.copytree(bed.CHECKOUT / "shim", folder / "lib" / "shim")
    script = folder / INTERPRETER
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(folder / 'lib')!r})\n"
        "from shim.bootstrap.program import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)


def ready(folder: Path, **env: str) -> None:
    """The template of the programs in ``folder`` answers for ``env``."""
    bed.until(lambda: _asked(folder, env) == 0, "no template serves")


def _asked(folder: Path, env: dict[str, str]) -> int:
    command = [folder / LAUNCHER, "-v"]
    return subprocess.run(
        command, env={**os.environ, **env, "OCISHIM_TEMPLATE": "only"}, capture_output=True, check=False
    ).returncode
