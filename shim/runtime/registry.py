"""From the name of a runtime to its driver.

A runtime is known by the name of its file (``runc``, ``crun-1.14``, ``/opt/gvisor/runsc``), else by what it says to
``--version``, else it is taken for a runtime with runc's command line (youki, kata-runtime and others have it).
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from shim.errors import NotFound, ShimError
from shim.runtime import command
from shim.runtime.crun import CrunCommandLine, refuses_hierarchy
from shim.runtime.driver import Driver
from shim.runtime.runc import Runc, RuncCommandLine
from shim.runtime.runsc import Runsc, RunscCommandLine

if TYPE_CHECKING:
    from shim.config import Config
    from shim.process import Reaper
    from shim.runtime.options import Cgroups

__all__ = ["driver_for", "find_binary", "kind_of_name", "kind_of_version"]

Kind: TypeAlias = Literal["runc", "crun", "runsc"]

_KINDS: tuple[Kind, ...] = ("runc", "crun", "runsc")
_NAME = re.compile(r"(runc|crun|runsc)(?:[-_.\d].*)?")
_VERSION = re.compile(r"(runc|crun|runsc) version\b")
_VERSION_S = 10.0


async def driver_for(config: Config, namespace: str, reaper: Reaper) -> Driver:
    """The driver of ``config.runtime`` for the containers of ``namespace``.

    Raises:
        NotFound: there is no such runtime here; says which ones there are.
        InvalidArgument: the configuration does not fit the runtime.
    """
    binary = find_binary(config.runtime)
    name = Path(binary).name
    kind = kind_of_name(name) or await _ask(reaper, binary)
    cgroups: Cgroups = "systemd" if config.systemd_cgroup else "runtime"
    base = (
        Path(config.runtime_root) if config.runtime_root else Path(config.state_root, "runtime", kind or name)
    )
    root = str(base / namespace)
    if kind == "runsc":
        gvisor = RunscCommandLine(
            binary=binary,
            root=root,
            cgroups=cgroups,
            debug=config.debug,
            platform=config.platform,
            config=tuple(config.runsc_config.items()),
        )
        return Runsc(kind, gvisor, reaper, timeout=config.runtime_timeout)
    line = (CrunCommandLine if kind == "crun" else RuncCommandLine)(
        binary=binary,
        root=root,
        cgroups=cgroups,
        debug=config.debug,
        no_pivot_root=config.no_pivot_root,
        no_new_keyring=config.no_new_keyring,
    )
    if isinstance(line, CrunCommandLine):
        line = replace(line, hide_v2=refuses_hierarchy())
    known = kind_of_name(name) == "runc" and _is_program(binary)
    return (Runc if known else Driver)(kind or name, line, reaper, timeout=config.runtime_timeout)


def find_binary(name: str) -> str:
    """The absolute path of the runtime ``name``, itself a path or a name on PATH.

    Raises:
        NotFound: it is not there, or cannot be executed; says what is there and how to get it.
    """
    if found := shutil.which(name):
        return str(Path(found).absolute())
    if "/" in name:
        what = "is not executable" if Path(name).exists() else "does not exist"
        raise NotFound(f"runtime {name} {what}")
    here = [kind for kind in _KINDS if shutil.which(kind)]
    hint = (
        f"'apt-get install {name}'"
        if name in _KINDS
        else "give an absolute path, or one of runc, crun, runsc"
    )
    raise NotFound(f"runtime {name!r} is not on PATH (installed: {', '.join(here) or 'none'}): {hint}")


def kind_of_name(name: str) -> Kind | None:
    """The kind of runtime that a file of this name is; None when the name does not tell."""
    match = _NAME.fullmatch(name)
    return _known(match)


def kind_of_version(output: str) -> Kind | None:
    """The kind of runtime that prints this for ``--version``; None when it is no known one."""
    return _known(_VERSION.match(output))


def _known(match: re.Match[str] | None) -> Kind | None:
    return next((kind for kind in _KINDS if match is not None and match[1] == kind), None)


def _is_program(path: str) -> bool:
    """Whether it is no script: that may do something of its own before it runs runc."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


async def _ask(reaper: Reaper, binary: str) -> Kind | None:
    name = f"{binary} --version"
    try:
        result = await command.run(reaper, [binary, "--version"], name=name, timeout=_VERSION_S)
    except ShimError:
        # It cannot even say its version; its first command will tell why.
        return None
    return kind_of_version(result.stdout.decode("utf-8", "replace"))
