"""The command line in this process: fast, and its descriptors are counted by ``leaks`` as well.

``ocishim("run", bundle)`` gives code, stdout and stderr. What needs a process of its own (signals, a terminal, a stdin)
starts ``PROGRAM``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest
from support import bed
from support.shims import CgroupParent

from shim.cli.app import run
from shim.containers import removal
from shim.containers.containers import Containers
from shim.errors import ShimError


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The configuration of all verbs and shims: groups and data of this test alone, which go with it."""
    file = tmp_path / "config.toml"
    file.write_text(f'data_root = "{tmp_path}/data"\n')
    monkeypatch.setenv("OCISHIM_CONFIG", str(file))
    if not bed.is_root():
        yield file
        return
    parent = CgroupParent()
    file.write_text(f'{file.read_text()}cgroup_parent = "{parent.path}"\n')
    yield file
    parent.remove()


class Ocishim(Protocol):
    state_root: Path

    def __call__(self, *words: object) -> Result: ...


@pytest.fixture
def ocishim(state_root: Path, configuration: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Ocishim]:
    """The command line with a state directory of its own, in which nothing is left at the end."""

    def call(*words: object) -> Result:
        capfd.readouterr()
        code = run(["--state-root", str(state_root), *map(str, words)])
        return Result(code, *capfd.readouterr())

    call.state_root = state_root
    yield call
    for container in Containers(str(state_root)).all():
        with suppress(ShimError):
            removal.remove(container, force=True)


@pytest.fixture
def program(state_root: Path, configuration: Path) -> list[str]:
    """The same as the beginning of a command line for a process of its own."""
    return [sys.executable, "-m", "shim", "--state-root", os.fspath(state_root)]
