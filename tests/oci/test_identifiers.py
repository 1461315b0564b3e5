import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.errors import InvalidArgument
from shim.oci.identifiers import validate_id, validate_namespace


@pytest.mark.parametrize("name", ["a", "A-b_c.d+e", "0", "...", "a..b", "_", "+1", "x" * 255])
def test_good_ids_come_back(name):
    assert validate_id(name) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "must not be empty"),
        (".", "'.' means a directory"),
        ("..", "'..' means a directory"),
        ("a/b", "'a/b' may only have letters"),
        ("../etc", "may only have letters"),
        ("a\0b", r"'a\x00b' may only have letters"),
        ("a b", "may only have letters"),
        ("a\n", r"'a\n' may only have letters"),
        ("ä", "may only have letters"),
        ("٣", "may only have letters"),
        ("-a", "must not begin with '-'"),
        ("x" * 256, "has 256 characters, 255 is the most"),
        ("x" * 1025, "has 1025 characters, 255 is the most"),
    ],
)
def test_bad_ids_are_named(name, text):
    with pytest.raises(InvalidArgument, match=re.escape(text)) as caught:
        validate_id(name)
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_what_it_is_an_id_of():
    with pytest.raises(InvalidArgument, match="exec id must not be empty"):
        validate_id("", "exec id")


@given(name=st.text(max_size=8))
def test_an_accepted_id_is_one_path_component(name):
    try:
        validate_id(name)
    except InvalidArgument:
        return
    assert name.isascii()
    assert "/" not in name
    assert name not in {"", ".", ".."}


@pytest.mark.parametrize("name", ["default", "k8s.io", "moby", "a-b_c.d", "x" * 76])
def test_good_namespaces_come_back(name):
    assert validate_namespace(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a..b", "-a", "a-", "a b", "a\n", "é", "x" * 77])
def test_bad_namespaces_are_named(name):
    with pytest.raises(InvalidArgument, match="namespace "):
        validate_namespace(name)
