"""As whom an image runs."""

from __future__ import annotations

import os

import pytest

from shim.errors import InvalidArgument, NotFound
from shim.image import User, resolve_user

PASSWD = """root:x:0:0:root:/root:/bin/sh
# a remark
broken
app:x:1000:1001:App:/home/app:/bin/sh
2000:x:5:6::/five:
short:x:7:8
nowhere:x:999999999999:1::/:
"""
GROUP = """root:x:0:
apps:x:1001:
audio:x:29:app,other
video:x:44:other,app
plug:x:29:app
1002:x:77:
"""


@pytest.fixture
def rootfs(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(PASSWD)
    (tmp_path / "etc" / "group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ("", User(0, 0)),
        ("root", User(0, 0)),
        ("0", User(0, 0)),
        ("app", User(1000, 1001, (29, 44))),
        ("1000", User(1000, 1001, (29, 44))),
        ("app:audio", User(1000, 29)),
        ("app:5", User(1000, 5)),
        ("app:1002", User(1000, 77)),
        ("1000:1001", User(1000, 1001)),
        ("3000", User(3000, 0)),
        ("3000:3001", User(3000, 3001)),
        ("2000", User(5, 6)),
        ("short", User(7, 8)),
        (":audio", User(0, 29)),
    ],
)
def test_users(rootfs, user, found):
    assert resolve_user(rootfs, user) == found


@pytest.mark.parametrize(
    ("user", "kind", "text"),
    [
        ("nobody", NotFound, "no user 'nobody'"),
        ("app:none", NotFound, "no group 'none'"),
        ("-1", NotFound, "no user '-1'"),
        ("nowhere", InvalidArgument, "the last is"),
        ("2147483648", InvalidArgument, "the last is 2147483647"),
        ("9" * 5000, InvalidArgument, "the last is"),
        ("1:9999999999", InvalidArgument, "the last is"),
        ("²", NotFound, "no user"),
    ],
)
def test_who_is_not_there(rootfs, user, kind, text):
    with pytest.raises(kind, match=text):
        resolve_user(rootfs, user)


def test_an_image_without_files(tmp_path):
    assert resolve_user(tmp_path, "") == User()
    assert resolve_user(tmp_path, "7:8") == User(7, 8)
    with pytest.raises(NotFound, match="no user 'root'"):
        resolve_user(tmp_path, "root")


def test_links_lead_to_the_files_of_the_image(rootfs, tmp_path_factory):
    host = tmp_path_factory.mktemp("host") / "passwd"
    host.write_text("app:x:1:1::/:\n")
    passwd = rootfs / "etc" / "passwd"
    passwd.rename(rootfs / "kept")
    passwd.symlink_to("/../../kept")
    assert resolve_user(rootfs, "app").uid == 1000
    passwd.unlink()
    passwd.symlink_to(host)
    with pytest.raises(NotFound):
        resolve_user(rootfs, "app")


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_what_is_no_file_is_not_waited_for(rootfs, kind):
    path = rootfs / "etc" / "group"
    path.unlink()
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    with pytest.raises(InvalidArgument, match="/etc/group of the image is no regular file"):
        resolve_user(rootfs, "app")
