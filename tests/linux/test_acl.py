"""Access control lists of directories, as the kernel understands them."""

from __future__ import annotations

import os
import socket
import stat
import subprocess

import pytest

from shim.linux.acl import ACL_READ, ACL_WRITE, default_acl, set_default_acl

READ_WRITE = ACL_READ | ACL_WRITE


def test_its_layout():
    # getfacl's view of it: user::rw-, user:1000:rw-, group::rw-, mask::rw-, other::---
    assert default_acl(1000, READ_WRITE) == bytes.fromhex(
        "02000000 01000600ffffffff 02000600e8030000 04000600ffffffff 10000600ffffffff 20000000ffffffff"
    )


@pytest.mark.root
@pytest.mark.parametrize("uid", [4242, 4243])
def test_what_is_made_in_it_is_that_users_to_write(tmp_path, uid):
    os.chmod(tmp_path, 0o755)
    set_default_acl(tmp_path, 4242, READ_WRITE)
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))
        # As go-plugin does it; the group bits are the mask.
        os.chmod(path, 0o660)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert os.getxattr(path, "system.posix_acl_access")
        said = subprocess.run(
            ["/bin/sh", "-c", "test -w socket"],
            cwd=tmp_path,
            user=uid,
            group=uid,
            extra_groups=[],
            check=False,
        )
    assert (said.returncode == 0) == (uid == 4242)


def test_a_file_system_without_them():
    with pytest.raises(OSError, match="/proc/self"):
        set_default_acl("/proc/self", 1, READ_WRITE)
