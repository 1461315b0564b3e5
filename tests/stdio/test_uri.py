import os
import urllib.parse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shim.errors import InvalidArgument
from shim.stdio import Streams
from shim.stdio.uri import Logger

# On a busy machine everything is slow.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Any file name that Linux allows, as Python spells it: every byte but NUL, the undecodable ones as surrogates.
names = st.binary(min_size=1).filter(lambda b: 0 not in b).map(lambda b: os.fsdecode(b"/" + b))
# What protobuf can carry in a string: no surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("stdout", "kind", "path"),
    [
        ("", "null", ""),
        ("/run/a", "path", "/run/a"),
        ("/run/a%20b?c#d", "path", "/run/a%20b?c#d"),
        ("/run/a://b", "path", "/run/a://b"),
        ("/run/a\nb ", "path", "/run/a\nb "),
        ("fifo:///run/a", "path", "/run/a"),
        ("FIFO:///run/a", "path", "/run/a"),
        ("file:///log/a%20b", "file", "/log/a b"),
        ("file:///log/a%2fb", "file", "/log/a/b"),
        ("file:///log/a?max=1#x", "file", "/log/a"),
        ("file:///log/a%3Fb%23c", "file", "/log/a?b#c"),
        ("file:///log/a\tb\n", "file", "/log/a\tb\n"),
        ("file:///log/%ff", "file", "/log/\udcff"),
        ("file:////log", "file", "//log"),
        ("binary:///bin/logger?a=b", "binary", ""),
        ("binary-v2:///bin/logger", "binary", ""),
    ],
)
def test_kind_and_path_of_stdout(stdout, kind, path):
    streams = Streams(stdout=stdout)
    assert (streams.kind, streams.output_path("stdout")) == (kind, path)


@pytest.mark.parametrize(
    ("streams", "error"),
    [
        ({"stdout": "npipe:////./pipe/x"}, "unknown STDIO scheme 'npipe'"),
        ({"stdout": "ttrpc+vsock://2:1/s?streaming_id=x"}, r"unknown STDIO scheme 'ttrpc\+vsock'"),
        ({"stdout": "http://x/y"}, "unknown STDIO scheme 'http'"),
        ({"stdout": "file://host/log"}, "absolute path"),
        ({"stdout": "file://"}, "absolute path"),
        ({"stdout": "file://?x"}, "absolute path"),
        ({"stdout": "fifo://relative"}, "absolute path"),
        ({"stdout": "binary://"}, "absolute path"),
        ({"stdout": "binary://logger?a=b"}, "absolute path"),
        ({"stdout": "binary://[/x"}, "absolute path"),
        ({"stdout": "/a\0b"}, "NUL"),
        ({"stdout": "file:///a%00b"}, "NUL"),
        ({"stdout": "fifo:///a%00b"}, "NUL"),
        ({"stdout": "binary:///a%00b"}, "NUL"),
        ({"stdout": "binary:///a?b=%00"}, "NUL"),
        ({"stdout": "binary:///a?%00=b"}, "NUL"),
        ({"stdin": "/a\0b"}, "stdin .* NUL"),
        ({"stdin": "file:///a"}, "stdin .* must be a path or fifo://"),
        ({"stdin": "binary:///a"}, "stdin .* must be a path or fifo://"),
        ({"stdout": "/a", "stderr": "/a\0b"}, "stderr .* NUL"),
        # The scheme is stdout's: taken for a path, this would write into the logger's program.
        ({"stdout": "/a", "stderr": "binary:///bin/logger"}, "stderr .* must be a path or fifo://"),
        ({"stderr": "file:///a"}, "stderr .* must be a path or fifo://"),
    ],
)
def test_what_is_refused(streams, error):
    with pytest.raises(InvalidArgument, match=error) as caught:
        Streams(**streams)
    assert "\n" not in str(caught.value)


def test_stderr_and_stdin():
    assert Streams(stderr="/e").kind == "path"
    streams = Streams("fifo:///in", "/out", "fifo:///err")
    assert streams.stdin_path == "/in"
    assert streams.output_path("stderr") == "/err"
    assert Streams("/in").kind == "null"


@pytest.mark.parametrize("stderr", ["", "/e", "binary:///x", "a\0b"])
def test_an_ignored_stderr_is_not_looked_at(stderr):
    assert Streams(stdout="/o", stderr=stderr, terminal=True).output_path("stderr") == ""
    assert Streams(stdout="file:///o", stderr=stderr).output_path("stderr") == "/o"
    assert Streams(stdout="binary:///o", stderr=stderr).output_path("stderr") == ""


@pytest.mark.parametrize(
    ("uri", "logger"),
    [
        ("binary:///l", Logger("/l", (), strict=False)),
        ("binary-v2:///l", Logger("/l", (), strict=True)),
        ("Binary-V2:///l?", Logger("/l", (), strict=True)),
        ("binary:///a%20b?id=x&id=y&empty=&flag&=v", Logger(
            "/a b", ("id", "x", "empty", "", "flag", "", "", "v"), strict=False
        )),
        ("binary:///l?a=%2F+%26#b", Logger("/l", ("a", "/ &"), strict=False)),
        ("binary:///l?a=%ff", Logger("/l", ("a", "\udcff"), strict=False)),
    ],
)  # fmt: skip
def test_logger(uri, logger):
    assert Streams(stdout=uri).logger() == logger


@untimed
@given(names)
def test_a_path_is_taken_as_it_is(path):
    assert Streams(stdin=path, stdout=path, stderr=path).output_path("stderr") == path


@untimed
@given(names, st.sampled_from(["fifo", "file"]))
def test_every_file_name_can_be_written_as_a_uri(path, scheme):
    uri = f"{scheme}://{urllib.parse.quote(os.fsencode(path))}"
    assert Streams(stdout=uri).output_path("stdout") == path


@untimed
@given(st.dictionaries(texts.filter(lambda t: "\0" not in t), texts.filter(lambda t: "\0" not in t)))
def test_every_argument_can_be_written_as_a_query(arguments):
    streams = Streams(stdout="binary:///l?" + urllib.parse.urlencode(arguments))
    pairs = [word for pair in arguments.items() for word in pair]
    assert list(streams.logger().args) == pairs


@untimed
@given(texts | texts.map("file://".__add__) | texts.map("binary:///l?".__add__), texts, texts, st.booleans())
def test_whatever_a_client_sends_is_understood_or_refused(stdin, stdout, stderr, terminal):
    try:
        streams = Streams(stdout, stdin, stderr, terminal=terminal)
    except InvalidArgument:
        return
    for path in (streams.stdin_path, streams.output_path("stdout"), streams.output_path("stderr")):
        assert b"\0" not in os.fsencode(path)
