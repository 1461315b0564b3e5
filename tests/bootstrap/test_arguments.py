"""The command line as Go's flag package reads it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shim.bootstrap.arguments import Invocation, parse

# On a busy machine everything is slow.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

WORDS = ["-namespace", "ns", "-address", "/run/c.sock", "-publish-binary", "/usr/bin/containerd", "-id", "c1"]
START = Invocation("start", "ns", "c1", "/run/c.sock", "/usr/bin/containerd")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([*WORDS, "start"], START),
        ([f"-{word}" if word.startswith("-") else word for word in WORDS] + ["start"], START),
        (["-namespace=ns", "--address=/run/c.sock", *WORDS[4:], "start"], START),
        ([*WORDS, "-debug", "start"], replace(START, debug=True)),
        ([*WORDS, "--debug=true", "start"], replace(START, debug=True)),
        ([*WORDS, "-debug=false", "start"], START),
        ([*WORDS, "-bundle", "/b", "delete"], replace(START, action="delete", bundle="/b")),
        ([*WORDS, "-bundle=/b=c", "delete"], replace(START, action="delete", bundle="/b=c")),
        (["-v"], Invocation(version=True)),
        (["--version"], Invocation(version=True)),
        (["-info"], Invocation(info=True)),
        ([], Invocation()),
    ],
)
def test_the_forms_of_a_flag(words, wanted):
    assert parse(words) == wanted


@pytest.mark.parametrize(
    "unknown",
    [
        ["-new-switch"],
        ["-new-flag", "value"],
        ["-new-flag=value"],
        ["--new-flag=start"],
        ["--"],
        ["-new", "-newer", "5"],
    ],
)
def test_unknown_flags_are_passed_over(unknown):
    assert parse([*unknown, *WORDS, "start"]) == START
    assert parse([*WORDS, *unknown, "start"]) == START


def test_a_flag_at_the_end_has_no_value():
    assert parse(["-id"]) == Invocation()


def test_what_looks_like_a_flag_may_be_a_value():
    assert parse(["-id", "-debug", "start"]) == Invocation("start", id="-debug")


def test_the_first_word_is_the_action():
    assert parse([*WORDS, "delete", "-id", "other", "start"]) == replace(START, action="delete")


FLAGS = [
    "-id",
    "--id=x",
    "-debug",
    "-debug=f",
    "-",
    "--",
    "=",
    "-=",
    "start",
    "delete",
    "",
    "-namespace",
    "-x",
]


@untimed
@given(st.lists(st.one_of(st.sampled_from(FLAGS), st.text(max_size=8))))
def test_every_command_line_is_read(words):
    assert isinstance(parse(words), Invocation)


@untimed
@given(
    namespace=st.text(min_size=1),
    container_id=st.text(min_size=1),
    debug=st.booleans(),
    joined=st.booleans(),
)
def test_every_value_comes_through(namespace, container_id, debug, joined):
    words = [f"-namespace={namespace}"] if joined else ["-namespace", namespace]
    words += [f"-id={container_id}"] if joined else ["-id", container_id]
    words += ["-debug"] * debug
    assert parse([*words, "start"]) == Invocation("start", namespace=namespace, id=container_id, debug=debug)
