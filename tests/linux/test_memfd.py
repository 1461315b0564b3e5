import errno
import os

import pytest

from shim.linux.memfd import forbid_growth, memfd_create


def test_holds_the_data_and_is_read_from_its_beginning():
    data = os.urandom(100_000)
    with memfd_create("test", data) as file:
        assert os.read(file.fileno(), len(data) + 1) == data
        assert not os.get_inheritable(file.fileno())


def test_can_be_opened_again_by_its_descriptors_path():
    with memfd_create("test") as file:
        with open(f"/proc/self/fd/{file.fileno()}", "ab") as writer:  # append mode, as a logger opens it
            writer.write(b"line\n")
        assert os.pread(file.fileno(), 100, 0) == b"line\n"


def test_does_not_grow_once_that_is_forbidden():
    with memfd_create("test", b"log") as file:
        writer = os.open(f"/proc/self/fd/{file.fileno()}", os.O_WRONLY | os.O_APPEND)
        forbid_growth(file)
        with pytest.raises(PermissionError) as caught:
            os.write(writer, b"more")
        os.close(writer)
        assert caught.value.errno == errno.EPERM
        assert os.pread(file.fileno(), 100, 0) == b"log"
