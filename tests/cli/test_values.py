from __future__ import annotations

import signal

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.cli.values import SIGNAL, parse_detach_keys, parse_signal
from shim.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9", 9),
        ("KILL", 9),
        ("kill", 9),
        ("SIGKILL", 9),
        ("TERM", 15),
        ("usr1", 10),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
        ("64", 64),
        ("32", 32),
    ],
)
def test_a_signal_is_known_by_number_and_by_name(text, number):
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "65", "-9", "FOO", "SIG", "KILL+1", "RTMIN-1", "RTMAX+1", "RTMIN+31", "9.0", "٣"]
)
def test_what_is_no_signal_is_named(text):
    with pytest.raises(InvalidArgument, match="is no signal"):
        parse_signal(text)


@given(st.sampled_from(list(signal.Signals)), st.booleans(), st.booleans())
def test_every_name_of_the_standard_library_is_known(member, prefix, lower):
    name = member.name if prefix else member.name.removeprefix("SIG")
    assert parse_signal(name.lower() if lower else name) == member


@given(st.text(max_size=12))
def test_any_text_is_a_signal_or_an_error(text):
    try:
        number = parse_signal(text)
    except InvalidArgument:
        number = 1
    assert 1 <= number <= 64


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("CTRL-A", b"\x01"),
        ("a,b", b"ab"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("", b""),
    ],
)
def test_detach_keys_are_the_bytes_a_terminal_sends(text, keys):
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-pp", "ab", "a,,b", "é", "ctrl-é", "shift-a"])
def test_what_is_no_key_is_named(text):
    with pytest.raises(InvalidArgument, match="is no key"):
        parse_detach_keys(text)


def test_a_wrong_value_is_a_usage_error():
    with pytest.raises(click.BadParameter, match="'NOPE' is no signal"):
        SIGNAL.convert("NOPE", None, None)


def test_signals_are_offered_in_either_case():
    ctx = click.Context(click.Command("kill"))
    offered = [item.value for item in SIGNAL.shell_complete(ctx, click.Argument(["number"]), "us")]
    assert offered == ["USR1", "USR2"]
