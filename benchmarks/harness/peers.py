"""The programs that are compared, and their versions.

All shims are started by the same flags and asked over the same client; each runs the same `runc`. The newer root's shim
runs right here, on this host's libc: no namespace or mount lies between it and the others.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

TOP = Path(__file__).resolve().parents[2]
OURS = "ocishim"
CONMON = "conmon"
BARE = "runc alone"
"""The same calls of the runtime without any shim."""


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    program: str
    version: str
    env: dict[str, str] = field(default_factory=dict)


@cache
def shims() -> dict[str, Peer]:
    """The shims by name, ours first; one that this machine lacks is not among them."""
    ours = Path(sys.executable).with_name("containerd-shim-ocishim-v2")
    root = subprocess.run(
        [TOP / "tests/bed/build-root", "--where"], stdout=subprocess.PIPE, check=True, text=True
    )
    programs = [
        ours,
        shutil.which("containerd-shim-runc-v2"),
        f"{root.stdout.strip()}/usr/bin/containerd-shim-runc-v2",
    ]
    found = [peer for program in programs if program and (peer := _shim(str(program)))]
    return {peer.name: peer for peer in found}


def _shim(program: str) -> Peer | None:
    try:
        text = subprocess.run([program, "-v"], stdout=subprocess.PIPE, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None  # not there, or not for this host's libc
    version = _number(text, r"Version:\s*")
    ours = program.endswith("containerd-shim-ocishim-v2")
    return Peer(OURS if ours else f"containerd {'.'.join(version.split('.')[:2])}", program, version)


def of_containerd(names: Iterable[str]) -> list[str]:
    """Those of them that are containerd's shims, the oldest first."""
    versions = {name: name.removeprefix("containerd ") for name in names if name.startswith("containerd ")}
    return sorted(versions, key=lambda name: [int(part) for part in versions[name].split(".")])


@cache
def runtime() -> str:
    return shutil.which("runc") or "/usr/sbin/runc"


@cache
def conmon() -> str | None:
    return shutil.which("conmon")


def with_conmon() -> list[str]:
    """Its name, if it is there."""
    return [CONMON] if conmon() else []


def versions() -> dict[str, str]:
    """Of everything that was measured, and of what it ran on."""
    found = {peer.name: peer.version for peer in shims().values()}
    found["runc"] = _version(runtime())
    if conmon():
        found[CONMON] = _version(conmon())
    return found | {"Python": sys.version.split()[0]}


def _version(program: str) -> str:
    text = subprocess.run([program, "--version"], stdout=subprocess.PIPE, check=True, text=True).stdout
    return _number(text, "version ")


def _number(text: str, before: str) -> str:
    """The version, without what a distribution adds to it."""
    return re.search(before + r"([\w.-]+)", text)[1]
