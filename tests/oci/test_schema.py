import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.errors import InvalidArgument
from shim.oci.schema import (
    BOOLEAN,
    TEXT,
    UINT16,
    array,
    check_object,
    integer,
    load_object,
    mapping,
    record,
    string,
    to_json,
)

ANYTHING = record()


def complaint(check, value):
    with pytest.raises(InvalidArgument) as caught:
        check_object({"x": value}, record({"x": check}), "doc")
    return str(caught.value)


@pytest.mark.parametrize(
    ("check", "value", "text"),
    [
        (TEXT, 3, "doc: x must be a string, got 3"),
        (TEXT, None, "doc: x is missing: it must be a string"),
        (TEXT, "a\0", 'doc: x must be a string without a NUL character, got "a\\u0000"'),
        (TEXT, "\udcff", 'doc: x must be a string of valid Unicode, got "\\udcff"'),
        (string("a colour", {"red"}.__contains__), "bleu", 'doc: x must be a colour, got "bleu"'),
        (BOOLEAN, 0, "doc: x must be true or false, got 0"),
        (BOOLEAN, "true", 'doc: x must be true or false, got "true"'),
        (UINT16, 65536, "doc: x must be a whole number from 0 to 65535, got 65536"),
        (UINT16, True, "doc: x must be a whole number from 0 to 65535, got true"),
        (UINT16, 1.0, "doc: x must be a whole number from 0 to 65535, got 1.0"),
        (integer(-2, 2), -3, "doc: x must be a whole number from -2 to 2, got -3"),
        (array(TEXT), "a", 'doc: x must be a list, got "a"'),
        (array(TEXT), ["a", 1], "doc: x[1] must be a string, got 1"),
        (array(TEXT), [None], "doc: x[0] is missing: it must be a string"),
        (array(TEXT, "names", non_empty=True), [], "doc: x must be names, got []"),
        (mapping(TEXT, "labels"), [], "doc: x must be labels, got []"),
        (mapping(TEXT, "labels"), {"io.x/y": 1}, 'doc: x["io.x/y"] must be a string, got 1'),
        (record({"a": record({"b": TEXT})}), {"a": {}}, "doc: x.a.b is missing: it must be a string"),
        (record(a=array(record(b=TEXT))), {"a": [{}, {"b": 1}]}, "doc: x.a[1].b must be a string, got 1"),
        (record(), 1, "doc: x must be an object, got 1"),
    ],
)
def test_a_mismatch_names_place_and_value(check, value, text):
    assert complaint(check, value) == text


def test_long_values_are_cut():
    assert len(complaint(TEXT, ["x"] * 1000)) < 120


@pytest.mark.parametrize("value", [{}, {"a": None}, {"a": "s", "unknown": object}])
def test_null_is_absent_and_unknown_keys_are_left_alone(value):
    assert check_object(value, record(a=TEXT), "doc") is value


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "doc is not valid JSON: line 1 column 1: Expecting value"),
        (b'{\n "a": 1,\n}', "doc is not valid JSON: line 3 column 1: "),
        (b"\xff", "doc is not UTF-8 text: byte 0 is wrong"),
        (b"\xef\xbb\xbf{}", "doc is not valid JSON: line 1 column 1: Unexpected UTF-8 BOM"),
        (b'{"a": NaN}', "doc is not valid JSON: NaN is no JSON number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "doc is not valid JSON: "),
        (b"[" * 200_000, "doc is not usable: it is nested too deeply"),
        (b"[]", "doc: the document must be an object, got []"),
        (b"null", "doc: the document is missing: it must be an object"),
    ],
)
def test_what_is_no_document(data, text):
    with pytest.raises(InvalidArgument) as caught:
        load_object(data, ANYTHING, "doc")
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


@given(data=st.binary(max_size=60))
def test_only_invalid_argument_escapes(data):
    with suppress(InvalidArgument):
        load_object(data, ANYTHING, "doc")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(document=st.dictionaries(st.text(), JSON))
def test_documents_come_back(document):
    data = to_json(document)
    assert data.isascii()
    assert data.count(b"\n") == 1
    assert load_object(data, ANYTHING, "doc") == document


def test_big_numbers_keep_their_digits():
    assert load_object(to_json({"n": 2**64 - 1}), ANYTHING, "doc") == {"n": 2**64 - 1}
    assert json.loads(to_json({"n": 2**64 - 1}))["n"] == 2**64 - 1
