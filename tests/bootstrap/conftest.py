"""Fixtures of the tests of how a shim begins."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import bed, leaks
from support.installation import Installation
from support.program import Program
from support.shims import CgroupParent


@pytest.fixture(params=["interpreter", "template"])
def program(request: pytest.FixtureRequest, state_root: Path) -> Iterator[Program]:
    """Leaves no process, no descriptor and no socket behind."""
    before = _inventory(state_root)
    program = Program(state_root, template=request.param == "template")
    yield program
    used = set(program.addresses)
    program.end()
    bed.until(lambda: _inventory(state_root) <= before, "something is left of a shim")
    assert not [address for address in used if Path(address.removeprefix("unix://")).exists()]


def _inventory(state_root: Path) -> set[object]:
    return {*leaks.processes(state_root), *leaks.descriptors()}


@pytest.fixture
def installation(state_root: Path) -> Iterator[Installation]:
    """Of this test alone."""
    installation = Installation(state_root)
    yield installation
    installation.end()


@pytest.fixture
def cgroups() -> Iterator[CgroupParent]:
    """A parent for the test's groups, in which no process is left."""
    parent = CgroupParent()
    yield parent
    for group in sorted(parent.groups(), reverse=True):
        bed.until(lambda group=group: _removed(group), f"{group} is busy")
    parent.remove()


def _removed(group: str) -> bool:
    with suppress(FileNotFoundError):
        try:
            os.rmdir(group)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise
    return True
