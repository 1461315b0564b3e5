"""Fixtures for the extension: a relay with its events, and what is counted to find leaks."""

from __future__ import annotations

import os
import select
import socket
import time

import pytest

from shim._native import Relay

DEADLINE_S = 20.0


class Events:
    """The events of a relay, waited for with a deadline."""

    def __init__(self, relay):
        self.relay = relay
        self.seen = []

    def poll(self):
        self.seen += self.relay.poll()
        return self.seen

    def wait(self, stream, kind="end"):
        """The first event of this kind of this stream."""
        limit = time.monotonic() + DEADLINE_S
        while not (
            found := [event for event in self.poll() if event.stream == stream and event.kind == kind]
        ):
            assert time.monotonic() < limit, f"no {kind!r} of stream {stream} in {self.seen}"
            select.select([self.relay], [], [], 1.0)
        return found[0]

    def until(self, condition):
        """Waits for what no event tells."""
        limit = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < limit
            time.sleep(0.001)

    def kinds(self, stream):
        return [event.kind for event in self.seen if event.stream == stream]


@pytest.fixture
def relay():
    with Relay() as relay:
        yield relay


@pytest.fixture
def events(relay):
    return Events(relay)


@pytest.fixture
def make_relay():
    """Builds relays with options; returns the relay and its events."""
    made = []

    def make(**options):
        made.append(Relay(**options))
        return made[-1], Events(made[-1])

    yield make
    for relay in made:
        relay.close()


@pytest.fixture
def make_ends():
    """Makes (read end, write end) of a pipe, or of a socket, whose bytes the relay copies instead of splicing."""

    def make(kind):
        if kind == "pipe":
            return os.pipe()
        return tuple(end.detach() for end in socket.socketpair())

    return make
