"""A rig for each test, and the rule that nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from support import leaks
from support.coroutines import pytest_pyfunc_call
from support.streams import Rig, rigged

__all__ = ["pytest_pyfunc_call"]


@pytest.fixture
def rig(tmp_path: Path, state_root: Path) -> AbstractAsyncContextManager[Rig]:
    return rigged(tmp_path, state_root)


@pytest.fixture(autouse=True)
def _nothing_left(state_root: Path) -> Iterator[None]:
    """No descriptor, and nothing where console sockets are made, outlives a test."""
    before = leaks.descriptors()
    yield
    assert leaks.descriptors() - before == set()
    assert list(state_root.iterdir()) == []
