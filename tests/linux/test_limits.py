"""Resource limits, in a process whose own they are."""

from __future__ import annotations

import subprocess
import sys

from support import bed

PROGRAM = """
import resource
from shim.linux.limits import raise_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
print(raise_open_files(), raise_open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_up_to_the_hard_limit_and_what_was_before_is_told():
    argv = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, cwd=bed.CHECKOUT)
    assert done.stdout.split() == [b"100", b"200", b"200", b"200"]
