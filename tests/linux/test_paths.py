import errno
import os

import pytest

from shim.linux.paths import open_in_root


@pytest.fixture
def root(tmp_path):
    inside = tmp_path / "root"
    (inside / "etc").mkdir(parents=True)
    (inside / "etc" / "passwd").write_text("inside")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("outside")
    return inside


def content(root, path):
    with open_in_root(root, path) as fd:
        assert not os.get_inheritable(fd.fileno())
        return os.read(fd.fileno(), 100)


@pytest.mark.parametrize("path", ["etc/passwd", "/etc/passwd", "../etc/passwd", "/../../etc/passwd"])
def test_dots_stay_inside(root, path):
    assert content(root, path) == b"inside"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "etc/passwd"])
def test_links_stay_inside(root, target):
    (root / "link").symlink_to(target)
    assert content(root, "link") == b"inside"


def test_the_root_itself(root):
    with open_in_root(root, ".", os.O_PATH) as fd:
        assert os.path.samestat(os.fstat(fd.fileno()), root.stat())


def test_absent_and_cut_at_nul(root):
    with pytest.raises(FileNotFoundError) as caught:
        open_in_root(root, "etc/shadow")
    assert caught.value.filename == "etc/shadow"
    with pytest.raises(OSError, match="NUL") as caught:
        open_in_root(root, "etc/passwd\0x")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(FileNotFoundError):
        open_in_root(root / "none", "etc/passwd")


def test_a_magic_link_is_refused(tmp_path):
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        open_in_root("/proc/self", "root/etc")


def test_errors_leak_nothing(root):
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with pytest.raises(FileNotFoundError):
            open_in_root(root, "none")
    assert set(os.listdir("/proc/self/fd")) == before
