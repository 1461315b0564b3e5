"""A reaper in the loop of each test, and the rule that no descriptor is left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest
from support import leaks
from support.coroutines import pytest_pyfunc_call, reaping

from shim.linux.fd import OwnedFd
from shim.process import Reaper

__all__ = ["pytest_pyfunc_call"]


@pytest.fixture(autouse=True)
def _no_descriptor_left() -> Iterator[None]:
    before = leaks.descriptors()
    yield
    assert leaks.descriptors() - before == set()


@pytest.fixture
def reaper() -> AbstractAsyncContextManager[Reaper]:
    return reaping()


@pytest.fixture
def null() -> Iterator[int]:
    with OwnedFd(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) as fd:
        yield fd.fileno()
