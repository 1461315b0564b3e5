"""What a plugin logs is in our log, at the level that it meant."""

from __future__ import annotations

import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from shim.plugin.protocol.lines import LINE_LIMIT
from shim.plugin.protocol.plugin_log import TRACE, PluginLog


class Kept(logging.Logger):
    def __init__(self) -> None:
        super().__init__("plugin", 1)
        self.records: list[tuple[int, str]] = []

    def handle(self, record: logging.LogRecord) -> None:
        self.records.append((record.levelno, record.getMessage()))


def logged(data: bytes) -> list[tuple[int, str]]:
    logger = Kept()
    log = PluginLog(logger)
    log.feed(data)
    log.end()
    return logger.records


def test_records_of_hclog_keep_their_level_and_their_values():
    lines = [
        {"@level": "trace", "@message": "t", "@timestamp": "2026-01-02T03:04:05.000006Z"},
        {"@level": "debug", "@message": "d", "@module": "kv.store"},
        {
            "@level": "info",
            "@message": "i",
            "count": 7,
            "name": "some thing",
            "path": "/x",
            "none": None,
            "list": [1, "a"],
        },
        {"@level": "warn", "@message": "w %s", "empty": ""},
        {"@level": "error", "@message": "e"},
    ]
    assert logged(b"".join(json.dumps(line).encode() + b"\n" for line in lines)) == [
        (TRACE, "t"),
        (logging.DEBUG, "d module=kv.store"),
        (logging.INFO, 'i count=7 name="some thing" path=/x none=null list=[1, "a"]'),
        (logging.WARNING, 'w %s empty=""'),
        (logging.ERROR, "e"),
    ]


def test_prefixes_tell_the_level_and_the_rest_is_for_debugging():
    assert logged(b"[TRACE] a\n[DEBUG] b\n[INFO]  c\n[WARN] d\n[ERROR] e\nf\n\n[FATAL] g") == [
        (TRACE, "a"),
        (logging.DEBUG, "b"),
        (logging.INFO, "c"),
        (logging.WARNING, "d"),
        (logging.ERROR, "e"),
        (logging.DEBUG, "f"),
        (logging.DEBUG, "[FATAL] g"),
    ]


def test_a_panic_is_an_error_to_its_last_line():
    text = b"before\npanic: oh\n\ngoroutine 1 [running]:\n\tmain.go:3\n[INFO] still here\nfatal error: x\n"
    assert [level for level, _ in logged(text)] == [
        logging.DEBUG,
        *[logging.ERROR] * 3,
        logging.INFO,
        logging.ERROR,
    ]


def test_json_of_somebody_else_is_shown_as_it_is():
    for text in [
        '{"level": "info", "msg": "x"}',
        '{"@level": "loud", "@message": "x"}',
        '{"@message": 7}',
        "{",
        "[1]",
    ]:
        assert logged(text.encode()) == [(logging.DEBUG, text)]


def test_a_line_without_end_is_logged_in_pieces_and_not_kept():
    logger = Kept()
    log = PluginLog(logger)
    for _ in range(40):
        log.feed(b"x" * 10_000)
    assert [len(text) for _, text in logger.records] == [LINE_LIMIT] * (400_000 // LINE_LIMIT)
    log.feed(b"\n[ERROR] whole again\n")
    assert logger.records[-1] == (logging.ERROR, "whole again")


def test_the_end_of_it_is_remembered():
    log = PluginLog(Kept())
    log.feed("".join(f"line {n}\n" for n in range(100)).encode() + b"y" * 5000 + b"\n")
    *_, before, last = log.tail()
    assert (len(log.tail()), before, last) == (8, "line 99", "y" * 300)


@given(st.binary())
def test_nothing_that_a_plugin_writes_is_an_error_of_ours(data):
    logged(data)
    logged(b"{" + data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_value_is_shown_on_one_line(value):
    line = json.dumps({"@level": "info", "@message": "m", "value": value}).encode()
    [(level, text)] = logged(line + b"\n")
    assert level == logging.INFO
    assert text.startswith("m value=")
    assert "\n" not in text
