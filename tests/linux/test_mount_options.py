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
    ],
)
def test_words(options, expected):
    assert parse(options) == expected


@pytest.mark.parametrize("option", ["loop", "loop=/dev/loop3", "uidmap=0:1:2", "gidmap=0:1:2"])
def test_what_cannot_be_honoured_is_refused(option):
    with pytest.raises(OSError, match=f"the mount option '{option}' is not supported") as caught:
        parse(["ro", option])
    assert caught.value.errno == errno.EOPNOTSUPP


WORDS = ["ro", "rw", "nosuid", "suid", "nodev", "dev", "bind", "noatime", "atime", "rshared", "size=1"]


@given(options=st.lists(st.sampled_from(WORDS)))
def test_a_flag_is_never_both_set_and_cleared(options):
    parsed = parse(options)
    assert not parsed.flags & parsed.cleared
    if options:
        assert parse([*options, options[-1]]).flags == parsed.flags
