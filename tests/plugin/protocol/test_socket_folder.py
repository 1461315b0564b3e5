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


def test_what_the_plugin_has_put_in_the_place_of_a_socket_is_not_touched(leaks, tmp_path):
    """It may write the folder: a link of its making to a file of the host is followed by nobody."""
    bed.need(bed.is_root(), "needs root")
    folder = SocketFolder.make("sockets-", str(tmp_path), "7")
    victim, place = tmp_path / "victim", tmp_path / "place"
    victim.write_text("ours")
    victim.chmod(0o600)
    place.mkdir(0o700)

    def replaced(make):
        path = folder.new_path()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
            os.unlink(path)
            make(path)
            with pytest.raises(ShimError, match="is no socket any more"):
                folder.share(path)

    replaced(lambda path: os.symlink(victim, path))
    replaced(lambda path: os.symlink(place, path))
    replaced(lambda path: os.link(victim, path))
    replaced(os.mkdir)
    for left, mode in ((victim, 0o600), (place, 0o700)):
        assert (mode_of(str(left)), left.stat().st_gid) == (mode, 0)
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
