from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from shim.daemon.admission import Admission

# It becomes the user itself: the interpreter may lie where that one may not go.
CONNECT = """
import json, os, socket, sys
path, user = sys.argv[1], json.loads(sys.argv[2])
if user:
    os.setgroups(user["groups"])
    os.setresgid(*[user["gid"]] * 3)
    os.setresuid(*[user["uid"]] * 3)
socket.socket(socket.AF_UNIX).connect(path)
"""


@pytest.fixture
def admitted(state_root, tmp_path):
    """``admitted(admission, uid=…)``: who a process of that user is for ``admission``."""
    os.chmod(state_root, 0o711)
    path = state_root / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.chmod(path, 0o666)
        listener.listen()

        def admit(admission, **user):
            subprocess.run([sys.executable, "-SIc", CONNECT, path, json.dumps(user)], check=True)
            accepted, _ = listener.accept()
            with accepted:
                return admission.admit(accepted)

        yield admit


def test_ourselves(admitted):
    assert admitted(Admission()).uid == os.geteuid()


@pytest.mark.root
class TestOthers:
    def test_nobody_else(self, admitted, caplog):
        assert admitted(Admission(), uid=4711, gid=4711, groups=[]) is None
        assert "uid 4711, gid 4711 may not use the daemon" in caplog.text

    def test_members_of_the_group(self, admitted):
        admission = Admission(4712)
        assert admitted(admission, uid=4711, gid=4712, groups=[]).uid == 4711
        assert admitted(admission, uid=4711, gid=4711, groups=[4710, 4712]).uid == 4711
        assert admitted(admission, uid=4711, gid=4711, groups=[4710]) is None

    def test_a_group_of_root_is_no_exception_for_all(self, admitted):
        assert admitted(Admission(None), uid=4711, gid=0, groups=[]) is None
