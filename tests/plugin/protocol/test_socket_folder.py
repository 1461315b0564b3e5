"""Folders for sockets are for those whom they are meant for, and gone afterwards."""

from __future__ import annotations

import grp
import os
import socket
import stat

import pytest
from support import bed

from shim.errors import InvalidArgument, ShimError
from shim.plugin.protocol.socket_folder import SocketFolder, group_id


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_without_a_group_it_is_ours_alone(leaks, tmp_path):
    folder = SocketFolder.make("sockets-", str(tmp_path))
    assert (mode_of(folder.path), os.path.dirname(folder.path)) == (0o700, str(tmp_path))
    path = folder.new_path()
    with folder.listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        with pytest.raises(ShimError, match="in use"):
            folder.listen(path)
    folder.remove()
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_with_a_group_that_can_use_it(leaks, tmp_path):
    bed.need(bed.is_root(), "needs root")
    folder = SocketFolder.make("sockets-", str(tmp_path), "7")
    assert (os.stat(folder.path).st_gid, mode_of(folder.path)) == (7, 0o770)
    path = folder.new_path()
    with folder.listen(path):
        assert (os.stat(path).st_gid, mode_of(path)) == (7, 0o660)
    folder.remove()


def test_a_group_is_a_name_or_a_number():
    root = grp.getgrgid(0).gr_name
    assert (group_id(root), group_id("0"), group_id("12345")) == (0, 0, 12345)
    for wrong in ("ocishim-nobody", "-1", "٣"):
        with pytest.raises(InvalidArgument, match="there is no group"):
            group_id(wrong)


def test_a_name_that_no_socket_fits_behind_is_refused(leaks, tmp_path):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with pytest.raises(InvalidArgument, match="is too long: a socket in it would have"):
        SocketFolder.make("sockets-", str(deep))
    assert list(deep.iterdir()) == []


@pytest.mark.parametrize("number", [str(2**32 - 1), str(2**40), "9" * 5000])
def test_a_number_that_no_group_has_is_refused(leaks, tmp_path, number):
    with pytest.raises(InvalidArgument, match="no group can have the number"):
        SocketFolder.make("sockets-", str(tmp_path), number)
    assert list(tmp_path.iterdir()) == []
