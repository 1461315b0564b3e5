"""Lines are whole however they come, and never long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shim.plugin.protocol.lines import Line, LineSplitter

LIMIT = 8


def fed(chunks) -> list[Line]:
    splitter = LineSplitter(LIMIT)
    return [*(line for chunk in chunks for line in splitter.feed(chunk)), *splitter.end()]


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\r", b"")), max_size=12))
def test_however_it_is_cut_the_lines_are_the_same(chunks):
    data = b"".join(chunks)
    found = fed(chunks)
    assert found == fed([data]) == fed([data[i : i + 1] for i in range(len(data))])
    assert all(len(line.data) <= LIMIT for line in found)


@given(st.lists(st.text("abc ", max_size=20).map(str.encode)))
def test_what_is_short_is_whole_and_what_is_long_comes_in_pieces(lines):
    found = iter(fed([b"".join(line + b"\n" for line in lines)]))
    for line in lines:
        piece = next(found)
        assert piece.whole is (len(line) <= LIMIT)
        data = piece.data
        while len(data) < len(line):
            piece = next(found)
            assert not piece.whole
            data += piece.data
        assert data == line
    assert next(found, None) is None


def test_a_piece_that_ends_with_its_line_is_no_whole_line():
    assert fed([b"x" * LIMIT, b"yz", b"\nnext\n"]) == [
        Line(b"x" * LIMIT, False),
        Line(b"yz", False),
        Line(b"next", True),
    ]


def test_the_last_line_needs_no_newline_and_windows_ends_go():
    assert fed([b"one\r\ntwo"]) == [Line(b"one", True), Line(b"two", True)]
    assert fed([b""]) == fed([]) == []
