import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.linux import mount_api as api
from shim.linux.mount_options import MountOptions, parse


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], MountOptions()),
        (["ro", "nosuid"], MountOptions(flags=api.MS_RDONLY | api.MS_NOSUID)),
        (["rbind", "rw"], MountOptions(flags=api.MS_BIND | api.MS_REC, cleared=api.MS_RDONLY)),
        (["ro", "rw"], MountOptions(cleared=api.MS_RDONLY)),
        (["rw", "ro"], MountOptions(flags=api.MS_RDONLY)),
        (["rprivate"], MountOptions(propagation=api.MS_PRIVATE | api.MS_REC)),
        (["private", "rslave"], MountOptions(propagation=api.MS_SLAVE | api.MS_REC)),
        (["size=64m", "", "mode=755"], MountOptions(data=("size=64m", "mode=755"))),
        (["lowerdir=/a:/b", "loopback"], MountOptions(data=("lowerdir=/a:/b", "loopback"))),
        (["ro", "loop"], MountOptions(flags=api.MS_RDONLY, loop=True)),
        (["uidmap=0:1:2", "gidmap=0:3:4"], MountOptions(uidmap="0:1:2", gidmap="0:3:4")),
    ],
)
def test_words(options, expected):
    assert parse(options) == expected


def test_what_cannot_be_honoured_is_refused():
    with pytest.raises(OSError, match="the mount option 'loop=/dev/loop3' is not supported") as caught:
        parse(["ro", "loop=/dev/loop3"])
    assert caught.value.errno == errno.EOPNOTSUPP


WORDS = ["ro", "rw", "nosuid", "suid", "nodev", "dev", "bind", "noatime", "atime", "rshared", "size=1"]


@given(options=st.lists(st.sampled_from(WORDS)))
def test_a_flag_is_never_both_set_and_cleared(options):
    parsed = parse(options)
    assert not parsed.flags & parsed.cleared
    if options:
        assert parse([*options, options[-1]]).flags == parsed.flags
