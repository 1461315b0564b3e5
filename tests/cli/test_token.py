"""Tokens and policies by the command line."""

from __future__ import annotations

import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.catalog import Tokens
from shim.cli.verbs.token import parse_duration
from shim.errors import InvalidArgument, PermissionDenied

POLICY = 'path "a/*" {\n  capabilities = ["read"]\n}\n'


@pytest.fixture
def kept(ocishim, tmp_path):
    return Tokens("filesystem", str(tmp_path / "data"))


def made(ocishim, *words):
    return json.loads(ocishim("token", "create", "--json", *words).out)


def test_a_token_is_printed_once(ocishim, kept):
    said = ocishim("token", "create", "-policy=ops", "-policy", "dev", "-ttl=90m", "-display-name=the ci")
    lines = [line.split(maxsplit=1) for line in said.out.splitlines()]
    assert [name for name, _ in lines] == [
        "Key", "---", "token", "token_accessor", "token_duration", "token_renewable", "token_policies",
    ]  # fmt: skip
    told = dict(lines)
    assert (told["token_duration"], told["token_policies"]) == ("1h30m", "[default dev ops]")
    assert said.err == "ocishim: there is no policy dev yet\nocishim: there is no policy ops yet\n"
    token = kept.lookup(told["token"])
    assert (token.accessor, token.display_name) == (told["token_accessor"], "the ci")
    for words in (
        ("list",),
        ("list", "--json"),
        ("lookup", told["token"]),
        ("lookup", "--json", token.accessor),
    ):
        seen = ocishim("token", *words).out
        assert told["token"] not in seen
        assert token.accessor in seen


def test_how_long_it_lives(ocishim, kept):
    assert made(ocishim)["token_duration"] == 768 * 3600
    assert made(ocishim, "-ttl=0")["token_duration"] == 0
    assert made(ocishim, "-ttl=60")["token_duration"] == 60
    assert made(ocishim, "--root") | {"token": "", "token_accessor": ""} == {
        "token": "", "token_accessor": "", "token_duration": 0, "token_renewable": False, "token_policies": ["root"],
    }  # fmt: skip
    assert made(ocishim, "-policy=root", "-ttl=1h")["token_duration"] == 3600
    assert [token.expires_at is None for token in kept.list()] == [False, True, False, True, False]
    assert "∞" in ocishim("token", "list").out


def test_one_field_for_scripts(ocishim, kept):
    secret = ocishim("token", "create", "--root", "-field=token").out.strip()
    assert kept.lookup(secret).root
    assert ocishim("token", "lookup", "-field=policies", secret).out == '["root"]\n'


def test_without_the_default_policy(ocishim):
    assert made(ocishim, "-policy=ops", "-no-default-policy")["token_policies"] == ["ops"]


def test_lookup_tells_what_is_known(ocishim):
    token = made(ocishim, "-ttl=1h", "-display-name=ci")
    for word in (token["token"], token["token_accessor"]):
        found = json.loads(ocishim("token", "lookup", "--json", word).out)
        assert found.pop("creation_time") > 0
        assert found.pop("expire_time").endswith("Z")
        assert 3590 <= found.pop("ttl") <= 3600
        assert found == {"accessor": token["token_accessor"], "display_name": "ci", "policies": ["default"]}


@pytest.mark.parametrize("by", ["token", "token_accessor"])
def test_a_token_is_revoked(ocishim, kept, by):
    token, other = made(ocishim), made(ocishim)
    assert ocishim("token", "revoke", "-accessor", token[by]) == (0, "Success! Revoked token\n", "")
    with pytest.raises(PermissionDenied):
        kept.lookup(token["token"])
    kept.lookup(other["token"])
    again = ocishim("token", "revoke", token[by])
    assert (again.code, again.err) == (1, "ocishim: there is no such token\n")


def test_a_secret_may_come_by_stdin(ocishim, program, kept):
    token = made(ocishim)
    for verb, said in (("lookup", token["token_accessor"]), ("revoke", "Success!")):
        ran = subprocess.run(
            [*program, "token", verb, "-"],
            input=f"{token['token']}\n",
            capture_output=True,
            text=True,
            check=True,
        )
        assert said in ran.stdout
    assert kept.list() == []


def test_policies(ocishim, tmp_path):
    file = tmp_path / "ops.hcl"
    file.write_text(POLICY)
    assert ocishim("token", "policy", "write", "Ops", file) == (0, "Success! Uploaded policy: ops\n", "")
    assert ocishim("token", "policy", "read", "ops") == (0, POLICY, "")
    assert ocishim("token", "policy", "list").out == "default\nops\nroot\n"
    assert json.loads(ocishim("token", "policy", "list", "--json").out) == ["default", "ops", "root"]
    assert ocishim("token", "create", "-policy=ops").err == ""
    assert ocishim("token", "policy", "delete", "OPS") == (0, "Success! Deleted policy: ops\n", "")
    assert ocishim("token", "policy", "list").out == "default\nroot\n"


@pytest.mark.usefixtures("ocishim")
def test_a_policy_may_come_by_stdin(program, kept):
    subprocess.run([*program, "token", "policy", "write", "ops", "-"], input=POLICY.encode(), check=True)
    assert kept.policy("ops") == POLICY
    ran = subprocess.run(
        [*program, "token", "policy", "write", "ops", "-"], input=b"\xff", capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert ran.stderr.startswith(b"ocishim: - is no text: ")
    assert kept.policy("ops") == POLICY


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["create", "-ttl=5x"], 2, "'5x' is no duration; use seconds, or such as 15m"),
        (["create", "-ttl=-5"], 2, "'-5' is no duration"),
        (["create", "-ttl=999999999d"], 1, "cannot live for"),
        (["create", "-policy=a/b"], 1, "policy name 'a/b': use letters"),
        (["create", "--root", "-policy=ops"], 1, "no others"),
        (["create", "-no-default-policy"], 1, "needs a policy"),
        (["create", "-display-name=a\nb"], 1, "display name"),
        (["lookup", "ocs.nope"], 1, "there is no such token"),
        (["lookup", ""], 1, "missing client token"),
        (["revoke"], 2, "missing argument 'TOKEN|ACCESSOR|-'"),
        (["policy", "write", "a", "/no/where"], 1, "/no/where cannot be read: No such file or directory"),
        (["policy", "write", "a", "/"], 1, "/ cannot be read: Is a directory"),
        (["policy", "write", "root", "/dev/null"], 1, 'cannot update "root" policy'),
        (["policy", "write", "../a", "/dev/null"], 1, "policy name '../a'"),
        (["policy", "read", "nope"], 1, "no policy named: nope"),
        (["policy", "delete", "default"], 1, 'cannot delete "default" policy'),
    ],
)
def test_what_cannot_be(ocishim, kept, words, code, said):
    result = ocishim("token", *words)
    assert (result.code, result.out) == (code, "")
    assert said in result.err
    assert result.err.startswith("ocishim: ")
    assert result.err.count("\n") == 1
    assert kept.list() == []


def test_a_policy_that_is_none_is_told_in_one_line(ocishim, tmp_path):
    file = tmp_path / "bad.hcl"
    for text in ('path "a" {', 'path "a" { capabilities = ["fly"] }', '{"path"'):
        file.write_text(text)
        result = ocishim("token", "policy", "write", "ops", file)
        assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
        assert result.err.startswith("ocishim: failed to parse policy: ")
    assert ocishim("token", "policy", "list").out == "default\nroot\n"


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90", 90), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("30d", 2592000)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@given(st.text(max_size=10) | st.from_regex(r"\A(\d{1,4}[smhdx])+\Z"))
def test_any_text_is_a_duration_or_an_error(text):
    seconds = 0
    try:
        seconds = parse_duration(text)
    except InvalidArgument as error:
        assert "is no duration" in str(error)  # noqa: PT017 - any text may be right
    assert seconds >= 0
