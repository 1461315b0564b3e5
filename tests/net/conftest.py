"""Network namespaces of a test's own: one plays the host, one the container, one a peer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import pytest
from support.coroutines import pytest_pyfunc_call

from shim.linux.fd import OwnedFd
from shim.linux.namespaces import CLONE_NEWNET, apart, setns, unshare

__all__ = ["pytest_pyfunc_call"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Netns:
    """Ends with the test, and its interfaces with it."""

    fd: OwnedFd

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.fd.fileno()}"

    def run(self, function: Callable[[], _T]) -> _T:
        """What ``function`` returns in a thread that is in the namespace."""

        def enter():
            setns(self.fd.fileno(), CLONE_NEWNET)
            return function()

        return apart(enter)


def make() -> Netns:
    def made():
        unshare(CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return Netns(OwnedFd(apart(made)))


@pytest.fixture
def netns() -> Iterator[Callable[[], Netns]]:
    with ExitStack() as stack:

        def new() -> Netns:
            namespace = make()
            stack.enter_context(namespace.fd)
            return namespace

        yield new


@pytest.fixture
def host(netns) -> Netns:
    return netns()


@pytest.fixture
def inside(netns) -> Netns:
    return netns()
