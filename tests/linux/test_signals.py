"""What the C library keeps for itself is reset all the same."""

from __future__ import annotations

import subprocess
import sys

# sigaction(2) itself, past the C library: 32 and 33 are ignored by this process and its children.
CODE = """
import re
from ctypes import c_long, c_int, c_void_p, c_size_t, create_string_buffer
from shim.linux import signals
ignore = create_string_buffer((1).to_bytes(8, "little"), 32)
for number in (32, 33):
    assert signals._rt_sigaction(signals._RT_SIGACTION, number, ignore, None, 8) == 0

def ignored():
    mask = int(re.search(r"SigIgn:\\t(\\w+)", open("/proc/self/status").read())[1], 16)
    return [number for number in (13, 32, 33) if mask >> (number - 1) & 1]

before = ignored()
signals.reset_reserved()
print(before, ignored())
"""


def test_both_are_as_they_are_by_default():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    # 13 is SIGPIPE, which Python ignores: whoever may change a signal keeps his choice.
    assert done.stdout == "[13, 32, 33] [13]\n"
