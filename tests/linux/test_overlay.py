import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.linux.overlay import relative_lowerdirs, split_lowerdir


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/a", ["/a"]),
        ("/a:/b/c", ["/a", "/b/c"]),
        (r"/a\:b:/c", [r"/a\:b", "/c"]),
        (r"/a\\:/c", [r"/a\\", "/c"]),
    ],
)
def test_split(value, expected):
    assert split_lowerdir(value) == expected


@given(
    names=st.lists(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1), min_size=1)
)
def test_split_of_escaped_names_finds_them(names):
    escaped = ["/" + name.replace("\\", "\\\\").replace(":", "\\:") for name in names]
    assert split_lowerdir(":".join(escaped)) == escaped


@pytest.mark.parametrize(
    ("lowers", "expected"),
    [
        (["/s/1/fs", "/s/22/fs"], ("/s", "1/fs:22/fs")),
        (["/s/1", "/s/1/fs"], ("/s/1", ".:fs")),
        (["/a", "/b"], ("/", "a:b")),
        ([r"/x\:y/1", r"/x\:y/2"], ("/x:y", "1:2")),
    ],
)
def test_relative(lowers, expected):
    assert relative_lowerdirs(lowers) == expected
