"""Policies: what is taken, what is refused, and which rule decides about a path."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shim.catalog.acl import CAPABILITIES, Acl, Rule, needs_sudo
from shim.catalog.policies import DEFAULT, parse_policy
from shim.catalog.tokens import _BUILT_IN_RULES
from shim.errors import InvalidArgument, Unimplemented

NOTHING = {"deny"}


def rules(text):
    return {rule.path: set(rule.capabilities) for rule in parse_policy(text)}


def refused(text):
    with pytest.raises(InvalidArgument) as raised:
        parse_policy(text)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def in_json(path, **body):
    return json.dumps({"path": {path: body}})


def test_hcl_as_vaults_documentation_writes_it():
    text = """
    # This section grants all access on "secret/*".
    path "secret/*" {
      capabilities = ["create", "read", "update", "patch", "delete", "list"]
    }
    /* Even though we allowed secret/*, this line explicitly denies it. */
    path "secret/super-secret" {
      capabilities = ["deny"]
      comment = "really"
    }
    path "/sys/plugins/\\u0072untimes/catalog" { capabilities = [ "read", "list", "sudo", ] }
    path "old" { policy = "write" }
    """
    assert rules(text) == {
        "secret/*": {"create", "read", "update", "patch", "delete", "list"},
        "secret/super-secret": {"deny"},
        "sys/plugins/runtimes/catalog": {"read", "list", "sudo"},
        "old": {"create", "read", "update", "delete", "list"},
    }


def test_json_says_the_same():
    body = {"a/*": {"capabilities": ["read"]}, "/b": {"policy": "read"}}
    assert rules(json.dumps({"path": body})) == {"a/*": {"read"}, "b": {"read", "list"}}
    assert rules(json.dumps({"path": [{"a": {"capabilities": []}}, {"b": {}}]})) == {"a": set(), "b": set()}


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "{}", '{"path": {}}', 'name = "x"'])
def test_a_policy_may_say_nothing(text):
    assert rules(text) == {}


def test_deny_is_alone():
    assert rules(in_json("a", capabilities=["read", "deny"])) == {"a": {"deny"}}
    assert rules(in_json("a", capabilities=["read"], policy="deny")) == {"a": {"deny"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (in_json("a", capabilities=["fly"]), "path 'a': invalid capability 'fly'; known: create, read"),
        (in_json("a", capabilities=["root"]), "invalid capability 'root'"),
        (in_json("a", capabilities=[["read"]]), "invalid capability"),
        (in_json("a", capabilities="read"), "capabilities must be a list"),
        (in_json("a", policy="fly"), "invalid policy 'fly'"),
        (in_json("a", policy=["read"]), "invalid policy"),
        (in_json("a/+*", capabilities=["read"]), "invalid use of wildcards ('+*' is forbidden)"),
        (in_json("a/{{identity.entity.id}}", capabilities=[]), "templates are not known here"),
        (
            in_json("a", capabilities=["read"], allowed_parameters={}),
            "'allowed_parameters' is not known here",
        ),
        ('path "a" { capabilities = ["read"]\n control_group = { ttl = 5 } }', "'control_group'"),
        (
            'path "a" {\n capabilities = ["deny"]\n capabilities = ["read"]\n}',
            "'capabilities' is there twice",
        ),
        (
            '{"path": {"a": {"capabilities": ["deny"]}, "a": {"capabilities": ["read"]}}}',
            "'a' is there twice",
        ),
        ('path = { "a" = { capabilities = ["deny"] } }', 'without "="'),
        ('path "a" "b" { capabilities = ["read"] }', "path 'a'"),
        ('path "a" { capabilities = [read] }\nfly "b" {}', "invalid key 'fly'; known: path, name"),
        ('path "a" { capabilities = ["re${1}ad"] }', "invalid capability 're${1}ad'"),
        ('path "a"', "failed to parse policy: "),
        ("path {", "failed to parse policy: "),
        ("{", "failed to parse policy: "),
        ('{"path": 5}', "path must have a body"),
        ('{"path": {"a": 5}}', "path 'a' must have a body"),
        ('{"path": {"a": {"capabilities": [' + "[" * 100_000, "failed to parse policy: "),
        ('path "a" { capabilities = ' + "[" * 500 + "]" * 500 + " }", "failed to parse policy: "),
        ("#" * 300_000, "256 KiB"),
        ('path "\ud800" {}', "half a character"),
    ],
)
def test_what_is_refused(text, said):
    assert said in refused(text)


def test_without_the_reader_of_hcl(monkeypatch):
    monkeypatch.setitem(sys.modules, "hcl2", None)
    with pytest.raises(Unimplemented, match=r"pip install 'ocishim\[daemon\]'; or write it in JSON"):
        parse_policy('path "a" {}')
    assert rules(in_json("a", capabilities=["read"])) == {"a": {"read"}}


def test_the_default_policy_is_what_its_text_says():
    assert parse_policy(DEFAULT) == _BUILT_IN_RULES["default"]


WORDS = st.sampled_from(
    [
        "path",
        '"a/*"',
        '"b"',
        "{",
        "}",
        "=",
        "capabilities",
        "[",
        "]",
        '"read"',
        '"deny"',
        ",",
        "\n",
        "#",
        "<<E",
        "${",
        "\\",
    ]
)


@settings(deadline=None)
@example('path "\ud800" {}')
@example("\0")
@given(st.text(max_size=40) | st.lists(WORDS, max_size=25).map(" ".join) | st.binary(max_size=20).map(repr))
def test_any_text_is_a_policy_or_an_error(text):
    found, said = (), ""
    try:
        found = parse_policy(text)
    except InvalidArgument as error:
        said = str(error)
    assert all(rule.capabilities <= set(CAPABILITIES) for rule in found)
    assert len(said) < 1000
    assert "\n" not in said


def acl(**said):
    return Acl(Rule(path, frozenset(what.split())) for path, what in said.items())


def decided(path, *patterns, **options):
    """Which of the patterns decides: each allows something of its own."""
    names = dict(zip(patterns, ("read", "list", "update", "delete"), strict=False))
    found = Acl(Rule(pattern, frozenset({names[pattern]})) for pattern in patterns).capabilities(
        path, **options
    )
    return next((pattern for pattern in patterns if found == {names[pattern]}), None)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/", False),
        ("a/b", "a/bc", False),
        ("a/*", "a/", True),
        ("a/*", "a/b/c", True),
        ("a/*", "a", False),
        ("a*", "abc/d", True),
        ("*", "anything/at/all", True),
        ("*", "", True),
        ("a/*/c", "a/b/c", False),
        ("a/*/c", "a/*/c", True),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a//c", True),
        ("a/+/c", "a/b/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("+", "a", True),
        ("+", "a/b", False),
        ("+/b", "a/b", True),
        ("a/+b", "a/xb", False),
        ("a/+b", "a/+b", True),
        ("a/+/c*", "a/b/cd/e", True),
        ("a/+/*", "a/b/c/d", True),
        ("a/+/*", "a/b", False),
        ("a/+/*", "a/b/", True),
    ],
)
def test_what_a_pattern_matches(pattern, path, matches):
    assert (decided(path, pattern) == pattern) is matches


@pytest.mark.parametrize(
    ("path", "winner", "loser"),
    [
        ("a/b/c", "a/b/c", "a/b/*"),
        ("a/b/c", "a/b/*", "a/*"),
        ("a/b/c", "a/b*", "a/+/c"),
        ("a/b/c", "a/b/+", "a/+/c"),
        ("a/b/c", "a/+/c", "a/+/*"),
        ("a/b/c", "a/+/c", "a/*"),
        ("a/b/c/d", "a/+/c/d", "a/+/+/d"),
        ("a/b/c/d", "a/+/c/*", "a/+/*"),
        ("a/b", "a/+", "a/*"),
        ("a/b/c", "+/b/c", "*"),
        ("a/b/c", "+/b/+", "+/+/c"),
    ],
)
def test_which_pattern_wins(path, winner, loser):
    assert decided(path, winner, loser) == winner
    assert decided(path, loser, winner) == winner


def test_only_the_winner_counts():
    both = acl(**{"a/*": "read update", "a/b": "list"})
    assert both.capabilities("a/b") == {"list"}
    assert both.capabilities("a/c") == {"read", "update"}
    assert both.capabilities("b") == NOTHING
    assert acl(**{"a/*": "read", "a/b/*": "deny"}).capabilities("a/b/c") == NOTHING


def test_policies_add_up_for_the_same_path_and_deny_stays():
    merged = Acl([Rule("a", frozenset({"read"})), Rule("a", frozenset({"list"}))])
    assert merged.capabilities("/a") == {"read", "list"}
    for order in (("read", "deny"), ("deny", "read")):
        assert Acl(Rule("a", frozenset({word})) for word in order).capabilities("a") == NOTHING


def test_no_capability_is_deny():
    assert acl(a="").capabilities("a") == NOTHING
    assert acl(**{"a*": ""}).capabilities("a") == NOTHING


def test_a_list_ends_with_a_slash_but_its_rule_need_not():
    assert decided("a/b", "a/b/*", listing=True) == "a/b/*"
    assert decided("a/b", "a/b/*") is None
    assert decided("a/b", "a/b", "a/b/*", listing=True) == "a/b"
    assert decided("a/b", "a/+", "a/+/", listing=True) == "a/+/"
    assert decided("a/b/", "a/b", listing=True) == "a/b"
    assert decided("a/b/", "a/b") is None
    assert decided("a/b/", "a/b", "a/b/", listing=True) == "a/b/"


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("sys/plugins/runtimes/catalog", True),
        ("sys/plugins/runtimes/catalog/", True),
        ("sys/plugins/runtimes/catalog/container/a", True),
        ("sys/plugins/catalog/auth/a", True),
        ("sys/plugins/runtimes/catalogue", False),
        ("sys/health", False),
    ],
)
def test_where_sudo_is_needed(path, needed):
    assert needs_sudo(path) is needed


def model(pattern, path):
    """The same as a walk over both, one part at a time."""
    ours, parts = pattern.split("/"), path.split("/")
    for position, part in enumerate(ours):
        if position == len(ours) - 1 and part.endswith("*"):
            return len(parts) > position and parts[position].startswith(part[:-1])
        if position >= len(parts) or part not in {"+", parts[position]}:
            return False
    return len(ours) == len(parts)


PARTS = st.text("ab", max_size=2)
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join).map(lambda path: path.lstrip("/"))
PATTERNS = (
    st.tuples(
        st.lists(PARTS | st.just("+"), min_size=1, max_size=4).map("/".join), st.sampled_from(["", "*", "/*"])
    )
    .map("".join)
    .filter(lambda pattern: "+*" not in pattern)
)


@settings(max_examples=500)
@given(PATTERNS, PATHS)
def test_matching_is_what_a_walk_says(pattern, path):
    assert (decided(path, pattern) == pattern) is model(pattern, path)


@settings(max_examples=300)
@given(st.lists(st.tuples(PATTERNS, st.sampled_from(CAPABILITIES)), max_size=6), PATHS, st.randoms())
def test_the_order_of_rules_means_nothing_and_what_is_given_was_said(said, path, random):
    made = [Rule(pattern, frozenset({word})) for pattern, word in said]
    found = Acl(made).capabilities(path)
    random.shuffle(made)
    assert Acl(made).capabilities(path) == found
    assert found == NOTHING or found <= {word for pattern, word in said if model(pattern, path)}
    if any(pattern == path and word == "deny" for pattern, word in said):
        assert found == NOTHING
