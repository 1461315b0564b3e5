import copy
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.errors import InvalidArgument
from shim.oci.process import derive, parse, parse_user, with_process_terminal
from shim.oci.schema import to_json

CAPS = ["CAP_KILL", "CAP_CHOWN"]
BASE = {
    "terminal": True,
    "consoleSize": {"height": 1, "width": 2},
    "user": {"uid": 0, "gid": 0, "umask": 63, "additionalGids": [5]},
    "args": ["sh"],
    "env": ["PATH=/bin", "TERM=xterm", "EMPTY="],
    "cwd": "/work",
    "capabilities": {
        kind: list(CAPS) for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")
    },
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
    "apparmorProfile": "docker-default",
    "vendor.key": {"kept": True},
}


@pytest.fixture(autouse=True)
def base_is_never_edited():
    before = copy.deepcopy(BASE)
    yield
    assert before == BASE


def test_everything_that_is_not_given_is_the_containers():
    process = derive(BASE, ["ls", "-l"])
    changed = {"args": ["ls", "-l"], "terminal": False}
    assert process == {key: value for key, value in {**BASE, **changed}.items() if key != "consoleSize"}


def test_environment_is_added_to_and_replaced_in_place():
    process = derive(BASE, ["ls"], env=["TERM=vt100", "NEW=a=b", "NEW=c"])
    assert process["env"] == ["PATH=/bin", "TERM=vt100", "EMPTY=", "NEW=c"]


NAMES = st.sampled_from(["A", "B", "C"])
ENTRIES = st.lists(
    st.builds("{}={}".format, NAMES, st.text(st.characters(codec="ascii", exclude_characters="\0")))
)


@given(base=ENTRIES, over=ENTRIES)
def test_environment_has_each_name_once_with_its_last_value(base, over):
    merged = derive({**BASE, "env": base}, ["x"], env=over)["env"]
    assert dict(entry.split("=", 1) for entry in merged) == dict(entry.split("=", 1) for entry in base + over)
    assert len({entry.split("=")[0] for entry in merged}) == len(merged)


def test_terminal_and_its_size():
    process = derive(BASE, ["sh"], terminal=True, size=(24, 80))
    assert process["terminal"] is True
    assert process["consoleSize"] == {"height": 24, "width": 80}
    assert "consoleSize" not in with_process_terminal(BASE, terminal=False, size=(24, 80))


def test_cwd():
    assert derive(BASE, ["sh"], cwd="/tmp")["cwd"] == "/tmp"


def test_another_user_has_neither_roots_groups_nor_its_capabilities():
    process = derive(BASE, ["sh"], user=(1000, 100))
    assert process["user"] == {"uid": 1000, "gid": 100, "umask": 63}
    assert process["capabilities"] == {"bounding": CAPS}


def test_root_in_a_container_of_another_user():
    base = {**BASE, "user": {"uid": 7, "gid": 7}, "capabilities": {"bounding": CAPS}}
    process = derive(base, ["sh"], user=(0, 0))
    assert process["capabilities"] == {"bounding": CAPS, "permitted": CAPS, "effective": CAPS}


def test_the_same_user_keeps_its_capabilities():
    assert derive(BASE, ["sh"], user=(0, 5))["capabilities"] == BASE["capabilities"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"args": []}, "exec: args must be a non-empty list of strings, got []"),
        ({"args": ["a\0b"]}, "exec: args[0] must be a string without a NUL character"),
        ({"args": ["\udcff"]}, "exec: args[0] must be a string of valid Unicode"),
        ({"args": ["x"], "cwd": "relative"}, 'exec: cwd must be an absolute path, got "relative"'),
        ({"args": ["x"], "env": ["NOVALUE"]}, 'exec: env[3] must be NAME=value, got "NOVALUE"'),
        ({"args": ["x"], "env": ["=x"]}, 'exec: env[3] must be NAME=value, got "=x"'),
    ],
)
def test_what_no_process_can_have(arguments, text):
    with pytest.raises(InvalidArgument, match=re.escape(text)):
        derive(BASE, **arguments)


@pytest.mark.parametrize(("text", "user"), [("0", (0, 0)), ("1000", (1000, 0)), ("1000:100", (1000, 100))])
def test_users(text, user):
    assert parse_user(text) == user


@pytest.mark.parametrize(
    "text", ["", "root", "-1", "1:", ":1", "1:2:3", "1:users", "4294967295", "1:4294967295", " 1"]
)
def test_no_users(text):
    with pytest.raises(InvalidArgument, match="is not a numeric uid or uid:gid"):
        parse_user(text)


def test_the_process_of_a_request_comes_back_unchanged():
    assert parse(to_json(BASE), "exec") == BASE


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"args": None}, "args is missing: it must be a non-empty list of strings"),
        ({"cwd": None}, "cwd is missing: it must be an absolute path"),
        ({"user": {"uid": "root"}}, 'user.uid must be a whole number from 0 to 4294967295, got "root"'),
        ({"user": {"additionalGids": 5}}, "user.additionalGids must be a list of numbers, got 5"),
        ({"rlimits": [{"type": "NOFILE", "soft": 1, "hard": 1}]}, "rlimits[0].type must be the name"),
        (
            {"rlimits": [{"type": "RLIMIT_CPU", "soft": -1, "hard": 1}]},
            "rlimits[0].soft must be a whole number",
        ),
        ({"rlimits": {}}, "rlimits must be a list of objects, got {}"),
        ({"capabilities": ["CAP_KILL"]}, 'capabilities must be an object, got ["CAP_KILL"]'),
        ({"oomScoreAdj": 2000}, "oomScoreAdj must be a whole number from -1000 to 1000"),
        ({"terminal": "yes"}, 'terminal must be true or false, got "yes"'),
    ],
)
def test_broken_processes(change, text):
    with pytest.raises(InvalidArgument, match=re.escape(f"exec of c: {text}")):
        parse(to_json({**BASE, **change}), "exec of c")
