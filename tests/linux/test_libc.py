import ctypes
import errno
from pathlib import Path

import pytest

from shim.linux import libc


def test_each_binding_has_its_own_signature():
    one = libc.bind("close", ctypes.c_int)
    two = libc.bind("close", ctypes.c_long)
    assert one is not two
    assert one(-1) == -1
    assert libc.get_errno() == errno.EBADF


def test_a_function_that_no_libc_has():
    with pytest.raises(AttributeError):
        libc.bind("ocishim_no_such_function", ctypes.c_int)


def test_falls_back_to_the_system_call():
    # 434 is pidfd_open everywhere.
    function = libc.bind_syscall("ocishim_no_such_function", 434, ctypes.c_int, ctypes.c_uint)
    assert function(-1, 0) == -1
    assert libc.get_errno() == errno.EINVAL


def test_a_system_call_that_the_kernel_lacks_is_enosys():
    function = libc.bind_syscall("ocishim_no_such_function", 100_000, ctypes.c_int)
    assert function(0) == -1
    assert libc.get_errno() == errno.ENOSYS


def test_fail_carries_errno_text_and_path():
    with pytest.raises(FileNotFoundError, match=r"\[Errno 2\] No such file or directory: '/x'") as caught:
        libc.fail(errno.ENOENT, b"/x")
    assert caught.value.filename == "/x"
    with pytest.raises(PermissionError) as caught:
        libc.fail(errno.EPERM)
    assert caught.value.filename is None


def test_encode_takes_every_kind_of_path():
    assert libc.encode("/tmp/é") == "/tmp/é".encode()
    assert libc.encode(b"/\xff") == b"/\xff"
    assert libc.encode(Path("/a")) == b"/a"
    assert libc.encode("/\udcff") == b"/\xff"


@pytest.mark.parametrize("path", ["/a\0b", b"\0"])
def test_encode_refuses_nul(path):
    with pytest.raises(OSError, match="NUL") as caught:
        libc.encode(path)
    assert caught.value.errno == errno.EINVAL
