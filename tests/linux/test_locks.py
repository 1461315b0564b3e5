"""Locks of directories."""

from __future__ import annotations

import threading

import pytest

from shim.linux.locks import is_locked, locked_directory


def test_who_asks_waits_for_who_is_in(tmp_path):
    order = []

    def second():
        with locked_directory(str(tmp_path)):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked_directory(str(tmp_path)):
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_look_is_no_lock(tmp_path):
    assert not is_locked(str(tmp_path))
    with locked_directory(str(tmp_path)):
        assert is_locked(str(tmp_path))
    assert not is_locked(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        is_locked(str(tmp_path / "none"))
