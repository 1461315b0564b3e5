"""Tokens and what they may: made, found, used up, revoked, and what is kept of them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.storages import STORAGES

from shim.catalog import Tokens
from shim.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unauthenticated

CATALOG = "sys/plugins/runtimes/catalog"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=STORAGES)
def tokens(request, tmp_path, clock):
    return Tokens(request.param, str(tmp_path), clock)


def policy(**said):
    return json.dumps({"path": {path: {"capabilities": words.split()} for path, words in said.items()}})


def test_a_token_is_found_by_its_secret(tokens):
    secret, token = tokens.create(["Readers", "writers"], display_name="ci of the week")
    assert token.policies == ("default", "readers", "writers")
    assert tokens.lookup(secret) == token == tokens.token(token.accessor)
    assert tokens.list() == [token]
    assert token.to_data() == {
        "accessor": token.accessor,
        "policies": ["default", "readers", "writers"],
        "display_name": "ci of the week",
        "created_at": 1000.0,
        "expires_at": None,
    }
    assert secret not in repr(token)


def test_secrets_are_long_and_each_its_own(tokens):
    made = [tokens.create()[0] for _ in range(20)]
    assert len(set(made)) == 20
    assert all(secret.startswith("ocs.") and len(secret) >= 4 + 43 for secret in made)


def test_a_secret_is_nowhere_on_disk(tmp_path):
    secret, _ = Tokens("filesystem", str(tmp_path)).create()
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"digest" in kept
    assert secret.encode() not in kept
    assert secret.removeprefix("ocs.").encode() not in kept


def test_what_is_no_secret(tokens):
    secret, token = tokens.create()
    with pytest.raises(Unauthenticated, match=r"^missing client token$"):
        tokens.lookup("")
    for wrong in (secret[:-1], secret + "a", token.accessor, "\ud800", "x" * 100_000):
        with pytest.raises(PermissionDenied, match=r"^permission denied$"):
            tokens.lookup(wrong)


def test_a_token_ends_when_its_time_is_over(tokens, clock):
    secret, token = tokens.create(ttl_s=60)
    lasting, _ = tokens.create()
    assert token.expires_at == 1060.0
    assert token.ttl_s(1000.0) == 60
    clock.now = 1059.9
    assert tokens.lookup(secret).ttl_s(clock.now) == 1
    clock.now = 1060.0
    with pytest.raises(PermissionDenied):
        tokens.lookup(secret)
    with pytest.raises(NotFound):
        tokens.token(token.accessor)
    with pytest.raises(NotFound):
        tokens.revoke(token.accessor)
    assert [tokens.lookup(lasting)] == tokens.list()
    assert tokens.lookup(lasting).ttl_s(clock.now) == 0


def test_what_has_ended_is_not_kept_for_ever(tmp_path, clock):
    tokens = Tokens("filesystem", str(tmp_path), clock)
    tokens.create(ttl_s=60)
    clock.now = 2000.0
    tokens.create()
    assert len(json.loads((tmp_path / "tokens" / "all.json").read_text())["tokens"]) == 1


def test_a_token_is_revoked_by_accessor_or_secret(tokens):
    first, token = tokens.create()
    second, _ = tokens.create()
    tokens.revoke(token.accessor)
    tokens.revoke(second)
    for secret in (first, second):
        with pytest.raises(PermissionDenied):
            tokens.lookup(secret)
        with pytest.raises(NotFound, match=r"^there is no such token$"):
            tokens.revoke(secret)
    assert tokens.list() == []


def test_a_root_token_may_do_all(tokens):
    secret, token = tokens.create(root=True)
    assert token.root
    assert token.policies == ("root",)
    assert tokens.lookup(secret).capabilities("any/thing") == {"root"}
    assert token.allows(f"{CATALOG}/container/r1", "delete")
    assert tokens.create(["root"])[1].root
    with pytest.raises(InvalidArgument, match="no others"):
        tokens.create(["readers"], root=True)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 1e12])
def test_lives_that_cannot_be(tokens, ttl):
    with pytest.raises(InvalidArgument, match="cannot live for"):
        tokens.create(ttl_s=ttl)


def test_what_cannot_be_made(tokens):
    for name in ("a\nb", "x" * 257, "\ud800"):
        with pytest.raises(InvalidArgument, match="display name"):
            tokens.create(display_name=name)
    with pytest.raises(InvalidArgument, match="policy name"):
        tokens.create(["../x"])
    with pytest.raises(InvalidArgument, match="needs a policy"):
        tokens.create(default=False)
    assert tokens.list() == []


def test_policies_decide_and_may_come_later(tokens):
    secret, token = tokens.create(["ops"], default=False)
    assert token.capabilities(f"{CATALOG}/container/r1") == {"deny"}
    tokens.put_policy("Ops", policy(**{f"{CATALOG}/*": "read sudo", "open/*": "read"}))
    token = tokens.lookup(secret)
    assert token.capabilities(f"{CATALOG}/container/r1") == {"read", "sudo"}
    assert token.allows(f"{CATALOG}/container/r1", "read")
    assert not token.allows(f"{CATALOG}/container/r1", "delete")
    assert token.allows("open/a", "read")
    tokens.put_policy("ops", policy(**{f"{CATALOG}/*": "read", f"{CATALOG}": "list sudo"}))
    token = tokens.lookup(secret)
    assert not token.allows(f"{CATALOG}/container/r1", "read"), "sudo is needed, too"
    assert token.allows(f"/{CATALOG}/", "list", listing=True)
    assert tokens.delete_policy("ops")
    assert not tokens.delete_policy("ops")
    assert tokens.lookup(secret).capabilities(CATALOG) == {"deny"}


def test_who_may_do_all_below_the_catalog_may_list_it(tokens):
    tokens.put_policy("ops", policy(**{f"{CATALOG}/*": "list read sudo"}))
    _, token = tokens.create(["ops"])
    assert token.allows(CATALOG, "list", listing=True)
    assert not token.allows(CATALOG, "read")
    assert token.allows(f"{CATALOG}/", "read")


def test_every_token_has_the_default_policy_unless_it_is_made_without(tokens):
    _, token = tokens.create()
    assert token.allows("auth/token/lookup-self", "read")
    _, token = tokens.create(["ops"], default=False)
    assert not token.allows("auth/token/lookup-self", "read")
    tokens.put_policy("default", policy(a="read"))
    secret, _ = tokens.create()
    assert tokens.lookup(secret).capabilities("auth/token/lookup-self") == {"deny"}
    assert tokens.lookup(secret).allows("a", "read")


def test_policies_are_kept_as_they_were_written(tokens):
    assert tokens.policies() == ["default", "root"]
    assert "lookup-self" in tokens.policy("default")
    assert tokens.policy("root") == ""
    text = 'path "a" {  capabilities = ["read"] } # ä\n'
    tokens.put_policy("A.1", text)
    assert tokens.policy("a.1") == text
    assert tokens.policies() == ["a.1", "default", "root"]
    with pytest.raises(NotFound, match=r"^no policy named: b$"):
        tokens.policy("b")


def test_built_in_policies_stay(tokens):
    with pytest.raises(FailedPrecondition, match='cannot update "root" policy'):
        tokens.put_policy("root", policy(a="read"))
    for name in ("root", "default"):
        with pytest.raises(FailedPrecondition, match=f'cannot delete "{name}" policy'):
            tokens.delete_policy(name)


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", "a\n"])
def test_names_that_are_none(tokens, name):
    for call in (tokens.policy, tokens.delete_policy, lambda name: tokens.put_policy(name, "{}")):
        with pytest.raises(InvalidArgument, match="policy name"):
            call(name)


def test_a_bad_policy_leaves_the_old_one(tokens):
    tokens.put_policy("a", policy(a="read"))
    with pytest.raises(InvalidArgument):
        tokens.put_policy("a", policy(a="fly"))
    assert tokens.policy("a") == policy(a="read")


MAKER = """
import sys
from shim.catalog import Tokens
tokens = Tokens("filesystem", sys.argv[1])
for number in range(20):
    secret, token = tokens.create()
    tokens.put_policy(f"{sys.argv[2]}-{number}", "{}")
    if number % 2:
        tokens.revoke(secret)
"""


def test_several_processes_lose_nothing(tmp_path):
    makers = [subprocess.Popen([sys.executable, "-c", MAKER, str(tmp_path), f"m{n}"]) for n in range(3)]
    assert [maker.wait(100) for maker in makers] == [0] * 3
    tokens = Tokens("filesystem", str(tmp_path))
    assert len(tokens.list()) == 3 * 10
    assert len(tokens.policies()) == 3 * 20 + 2
