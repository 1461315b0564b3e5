from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from shim.runtime.logs import Record, last_words, one_line, records

RUNC = (
    b'{"level":"warning","msg":"Setting back cgroup configs failed","time":"2026-11-26T19:16:35Z"}\n'
    b'{"level":"error","msg":"failed to write \\"50\\"","time":"2026-11-26T19:16:35Z"}\n'
)
CRUN = b'{\n  "msg": "container `t1` does not exist: open `\\/run\\/status`",\n  "level": "error",\n  "time": "t"\n}\n'
RUNSC = (
    b'{"msg":"Error setting up root FS","level":"error","time":"t"}'
    b'{"msg":"creating container","level":"error","time":"t"}'
)


def test_the_three_layouts():
    assert records(RUNC) == [
        Record("warning", "Setting back cgroup configs failed"),
        Record("error", 'failed to write "50"'),
    ]
    assert records(CRUN) == [Record("error", "container `t1` does not exist: open `/run/status`")]
    assert records(RUNSC) == [
        Record("error", "Error setting up root FS"),
        Record("error", "creating container"),
    ]


def test_a_cut_beginning_and_a_cut_end_cost_one_record_each():
    assert records(RUNC[20:] + RUNC[:-30]) == [
        Record("error", 'failed to write "50"'),
        Record("warning", "Setting back cgroup configs failed"),
    ]


def test_messages_become_one_line():
    log = b'{"level":"error","msg":"cannot parse:\\n      garbage\\n   ---^\\n"}'
    assert records(log) == [Record("error", "cannot parse: garbage ---^")]


def test_other_objects_and_text_are_passed_over():
    assert records(b'text {"level":"error"} {"msg":3} [{"msg":"in","level":"info"}]') == [
        Record("info", "in")
    ]


@given(st.binary())
def test_nothing_breaks_it(log):
    records(log)
    assert "\n" not in last_words(log)


@given(st.lists(st.tuples(st.sampled_from(["error", "warning"]), st.text())), st.sampled_from([None, 2]))
def test_every_record_of_a_log_is_found(wanted, indent):
    log = "".join(json.dumps({"level": level, "msg": text}, indent=indent) for level, text in wanted)
    assert records(log.encode()) == [Record(level, one_line(text)) for level, text in wanted]


def test_the_last_line_of_stderr_is_the_error():
    assert last_words(b"warning: slow disk\nopen /x: no such file\n\n") == "open /x: no such file"
    assert last_words(b" \n") == ""


def test_unless_a_headline_says_more():
    assert (
        last_words(b"panic: invalid state\n\ngoroutine 1 [running]:\nmain.main()\n") == "panic: invalid state"
    )
    assert (
        last_words(b"flag provided but not defined: -b\nrun [flags]\n") == "flag provided but not defined: -b"
    )
