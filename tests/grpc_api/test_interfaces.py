"""Counters of network interfaces."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import bed

from shim.grpc_api.interfaces import Interfaces, parse

HEADER = b"Inter-|   Receive  |  Transmit\n face |bytes packets\n"


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9.@-]{0,14}", fullmatch=True),
        st.lists(st.integers(0, (1 << 64) - 1), min_size=16, max_size=16),
    )
)
def test_each_number_is_in_its_place(interfaces):
    lines = [f"{name:>6}: {' '.join(map(str, numbers))}\n" for name, numbers in interfaces.items()]
    found = parse(HEADER + "".join(lines).encode())
    assert [
        (
            one.name, one.rx_bytes, one.rx_Packets, one.Rx_errors, one.Rx_dropped,
            one.Tx_bytes, one.Tx_packets, one.Tx_errors, one.Tx_dropped,
        )
        for one in found
    ] == [(name, *numbers[:4], *numbers[8:12]) for name, numbers in interfaces.items()]  # fmt: skip


@given(st.binary(max_size=200))
def test_what_is_no_line_is_left_out(content):
    assert parse(HEADER + content.replace(b":", b" ")) == []


def test_the_hosts_own_are_not_a_containers():
    interfaces = Interfaces.of(os.getpid())
    assert interfaces.read() == []
    interfaces.close()


def test_who_is_gone_has_none():
    with subprocess.Popen(["true"]) as process:
        pass
    assert Interfaces.of(process.pid).read() == []


@pytest.mark.root
def test_those_of_another_network_namespace_as_long_as_it_is_open():
    command = [
        "unshare",
        "--net",
        "sh",
        "-c",
        "busybox ip link set lo up && busybox ping -c 2 -q 127.0.0.1 >&2; exec cat",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        interfaces = Interfaces.of(0)
        try:
            bed.until(lambda: _is_up(process.pid), "it never sent")
            interfaces = Interfaces.of(process.pid)
            (lo,) = [one for one in interfaces.read() if one.name == "lo"]
            assert lo.rx_bytes == lo.Tx_bytes > 0
        finally:
            process.stdin.close()
            process.wait()
        assert "lo" in [one.name for one in interfaces.read()]
        interfaces.close()


def _is_up(pid: int) -> bool:
    interfaces = Interfaces.of(pid)
    found = any(one.name == "lo" and one.rx_Packets >= 2 for one in interfaces.read())
    interfaces.close()
    return found
