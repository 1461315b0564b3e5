from __future__ import annotations

import os
import socket
import time

import pytest

from shim.daemon.notify import Notifier


@pytest.fixture
def systemd(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "n"))
        sock.settimeout(10)
        yield sock


def test_what_systemd_is_told(systemd, tmp_path):
    notifier = Notifier(f"{tmp_path}/n")
    before = time.monotonic_ns() // 1000
    for tell in (lambda: notifier.ready("serves /s"), notifier.reloading, notifier.stopping):
        tell()
    assert systemd.recv(100) == b"READY=1\nSTATUS=serves /s"
    first, _, at = systemd.recv(100).decode().partition("\nMONOTONIC_USEC=")
    assert first == "RELOADING=1"
    assert before <= int(at) <= time.monotonic_ns() // 1000
    assert systemd.recv(100) == b"STOPPING=1"


def test_a_name_in_the_abstract_namespace(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{tmp_path}")
        Notifier(f"@{tmp_path}").stopping()
        sock.settimeout(10)
        assert sock.recv(100) == b"STOPPING=1"


def test_nobody_to_tell(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("x")


def test_our_children_do_not_tell_for_us(monkeypatch, systemd, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/n")
    notifier = Notifier()
    assert "NOTIFY_SOCKET" not in os.environ
    notifier.stopping()
    assert systemd.recv(100) == b"STOPPING=1"


def test_what_cannot_be_told_ends_nothing(tmp_path, caplog):
    Notifier(f"{tmp_path}/nobody").ready("x")
    assert "systemd cannot be told 'READY=1': No such file or directory" in caplog.text
