from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.cli.detach import DetachKeys

# Few different bytes, so that sequences overlap with themselves and come often.
_bytes = st.binary(max_size=30).map(lambda data: bytes(b % 3 for b in data))
_sequences = st.binary(min_size=1, max_size=4).map(lambda data: bytes(b % 3 for b in data))


@given(_sequences, st.lists(_bytes, max_size=8))
def test_pieces_come_out_as_the_whole_would(sequence, pieces):
    """Whatever the pieces: everything up to the first sequence goes on, in order, but for what may become one."""
    whole = b"".join(pieces)
    keys = DetachKeys(sequence)
    passed = b""
    for piece in pieces:
        passed += keys.feed(piece)
        if keys.seen:
            break
    at = whole.find(sequence)
    if at >= 0:
        assert keys.seen
        assert passed == whole[:at]
    else:
        assert not keys.seen
        assert whole.startswith(passed)
        assert sequence.startswith(whole[len(passed) :])


def test_a_single_key_of_the_sequence_waits_for_the_next():
    keys = DetachKeys(b"\x10\x11")
    assert keys.feed(b"ls\x10") == b"ls"
    assert keys.feed(b"x") == b"\x10x"
    assert not keys.seen
    assert keys.feed(b"\x10") == b""
    assert keys.feed(b"\x11 dropped") == b""
    assert keys.seen


def test_no_sequence_is_a_fault_of_the_caller():
    with pytest.raises(ValueError, match="at least one key"):
        DetachKeys(b"")
