import os
from pathlib import Path

import pytest

from shim.linux.fd import OwnedFd, pipe


def is_open(fd):
    return Path(f"/proc/self/fd/{fd}").exists()


def test_pipe_ends_are_cloexec_and_connected():
    read_end, write_end = pipe()
    with read_end, write_end:
        assert not os.get_inheritable(read_end.fileno())
        assert not os.get_inheritable(write_end.fileno())
        os.write(write_end.fileno(), b"x")
        assert os.read(read_end.fileno(), 2) == b"x"


def test_close_twice_spares_the_stranger_with_the_same_number():
    owner, other = pipe()
    other.close()
    number = owner.fileno()
    owner.close()
    stranger = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if stranger != number:
            os.dup2(stranger, number, inheritable=False)
        owner.close()
        assert is_open(number)
    finally:
        os.close(number)
        if stranger != number:
            os.close(stranger)


def test_with_block_closes():
    read_end, write_end = pipe()
    with read_end as same:
        assert same is read_end
        number = read_end.fileno()
    assert read_end.closed
    assert not is_open(number)
    write_end.close()


def test_detach_gives_away():
    read_end, write_end = pipe()
    number = read_end.detach()
    read_end.close()
    assert is_open(number)
    os.close(number)
    write_end.close()


def test_a_closed_descriptor_has_no_number():
    read_end, write_end = pipe()
    read_end.close()
    write_end.close()
    with pytest.raises(ValueError, match="closed"):
        read_end.fileno()
    with pytest.raises(ValueError, match="closed"):
        read_end.detach()


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="-1 is not a file descriptor"):
        OwnedFd(-1)


def test_close_that_fails_still_forgets_the_number():
    owner, other = pipe()
    other.close()
    os.close(owner.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        owner.close()
    assert owner.closed


def test_a_forgotten_descriptor_is_closed_with_a_warning():
    read_end, write_end = pipe()
    write_end.close()
    number = read_end.fileno()
    with pytest.warns(ResourceWarning, match=f"descriptor {number} was never closed"):
        del read_end
    assert not is_open(number)
