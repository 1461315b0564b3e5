"""Who may do what, over HTTP."""

from __future__ import annotations

import pytest

RUNTIMES = "sys/plugins/runtimes/catalog"
ONE = f"{RUNTIMES}/container/a"
DENIED = ["1 error occurred:\n\t* permission denied\n\n"]
ALL = ("create", "read", "update", "delete", "list")


def refusal(answer):
    assert answer.json().keys() == {"errors"}
    return answer.status_code, answer.json()["errors"]


def test_by_either_header(api):
    for headers in (
        {"X-Vault-Token": api.root},
        {"Authorization": f"Bearer {api.root}"},
        {"Authorization": f"bearer   {api.root}"},
    ):
        assert api("GET", RUNTIMES, token="", headers=headers).status_code == 200


@pytest.mark.parametrize("path", [RUNTIMES, ONE, "sys/plugins/catalog", "sys/nothing", "nothing"])
def test_without_one(api, path):
    assert refusal(api("GET", path, token="")) == (403, ["missing client token"])


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Vault-Token": "ocs.nobody"},
        {"X-Vault-Token": "x" * 5000},
        {"X-Vault-Token": "a b"},
        {"X-Vault-Token": b"\xff\xfe"},
        {"Authorization": "Bearer nobody"},
        {"X-Vault-Token": "nobody", "Authorization": "Bearer {root}"},
    ],
)
@pytest.mark.parametrize("path", [RUNTIMES, "sys/nothing"])
def test_with_what_is_none(api, headers, path):
    headers = {
        name: value.format(root=api.root) if isinstance(value, str) else value
        for name, value in headers.items()
    }
    assert refusal(api("GET", path, token="", headers=headers)) == (403, ["permission denied"])


def test_another_scheme_is_no_token(api):
    headers = {"Authorization": "Basic YTpi"}
    assert refusal(api("GET", RUNTIMES, token="", headers=headers)) == (403, ["missing client token"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("LIST", RUNTIMES),
        ("GET", RUNTIMES),
        ("LIST", f"{RUNTIMES}/"),
        ("GET", ONE),
        ("POST", ONE),
        ("DELETE", ONE),
        ("GET", f"{RUNTIMES}/vm/a"),
    ],
)
def test_all_but_sudo_is_nothing(api, method, path):
    token = api.token(*ALL)
    assert refusal(api(method, path, token=token)) == (403, DENIED)
    assert api("GET", ONE).status_code == 404


@pytest.mark.parametrize(
    ("capability", "allowed"),
    [
        ("read", {("GET", ONE), ("HEAD", ONE), ("GET", RUNTIMES)}),
        ("list", {("LIST", RUNTIMES), ("GET", RUNTIMES), ("GET", f"{RUNTIMES}?list=true")}),
        ("update", {("POST", ONE), ("PUT", ONE)}),
        ("delete", {("DELETE", ONE)}),
    ],
)
def test_each_capability_is_for_its_operation(api, capability, allowed):
    api("POST", ONE)
    token = api.token(capability, "sudo")
    tried = {
        ("GET", ONE),
        ("HEAD", ONE),
        ("POST", ONE),
        ("PUT", ONE),
        ("DELETE", ONE),
        ("LIST", RUNTIMES),
        ("GET", RUNTIMES),
        ("GET", f"{RUNTIMES}?list=true"),
    }
    given = {each for each in sorted(tried) if api(*each, token=token).status_code < 300}
    assert given == allowed


def test_a_policy_for_what_is_below_is_one_for_the_list(api):
    """As Vault, which adds a slash to what is listed."""
    api.tokens.put_policy("below", f'path "{RUNTIMES}/*" {{ capabilities = ["list", "sudo"] }}')
    api("POST", ONE)
    token, _ = api.tokens.create(["below"])
    for method in ("LIST", "GET"):
        for path in (RUNTIMES, f"{RUNTIMES}/"):
            assert api(method, path, token=token).status_code == 200
    assert refusal(api("GET", ONE, token=token)) == (403, DENIED)
    api.tokens.put_policy("exact", f'path "{RUNTIMES}" {{ capabilities = ["list", "sudo"] }}')
    assert api("LIST", RUNTIMES, token=api.tokens.create(["exact"])[0]).status_code == 200


def test_what_may_not_be_done_does_not_tell_whether_it_is_there(api):
    token = api.token("deny")
    assert api("GET", ONE, token=token).content == api("GET", f"{RUNTIMES}/nothing/a", token=token).content


def test_a_revoked_one(api):
    token = api.token("read", "sudo")
    assert api("GET", RUNTIMES, token=token).status_code == 200
    api.tokens.revoke(token)
    assert refusal(api("GET", RUNTIMES, token=token)) == (403, ["permission denied"])


def test_lookup_self(api):
    token, known = api.tokens.create(["some"], ttl_s=3600, display_name="me")
    data = api("GET", "auth/token/lookup-self", token=token).json()["data"]
    assert data["id"] == token
    assert data["accessor"] == known.accessor
    assert set(data["policies"]) == {"default", "some"}
    assert data["display_name"] == "me"
    assert data["creation_ttl"] == 3600
    assert 3590 <= data["ttl"] <= 3600
    assert data["expire_time"].endswith("Z")
    assert api("GET", "auth/token/lookup-self").json()["data"]["expire_time"] is None
    assert refusal(api("GET", "auth/token/lookup-self", token="x")) == (403, ["permission denied"])


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_revoke_self(api, method):
    token, _ = api.tokens.create(["some"])
    other, _ = api.tokens.create(["some"])
    bare, _ = api.tokens.create(["some"], default=False)
    assert api(method, "auth/token/revoke-self", token=bare).status_code == 403
    assert api(method, "auth/token/revoke-self", token=token).status_code == 204
    assert api("GET", "auth/token/lookup-self", token=token).status_code == 403
    assert refusal(api(method, "auth/token/revoke-self", token=token)) == (403, ["permission denied"])
    assert api("GET", "auth/token/lookup-self", token=other).status_code == 200


def test_capabilities_self(api):
    token = api.token("read", "sudo")
    ask = {"paths": [ONE, "sys/nothing"]}
    assert api("POST", "sys/capabilities-self", json=ask, token=token).json()["data"] == {
        ONE: ["read", "sudo"],
        "sys/nothing": ["deny"],
    }
    one = api("POST", "sys/capabilities-self", json={"path": ONE}).json()["data"]
    assert one == {ONE: ["root"], "capabilities": ["root"]}


@pytest.mark.parametrize("ask", [{}, {"paths": []}, {"paths": 3}, {"paths": [1]}, {"paths": ["a"] * 257}])
def test_capabilities_of_nothing(api, ask):
    assert api("POST", "sys/capabilities-self", json=ask).status_code == 400


@pytest.mark.parametrize("path", ["sys/health", "sys/seal-status", "sys/init"])
def test_probes_need_none(api, path):
    answer = api("GET", path, token="")
    assert answer.status_code == 200
    assert answer.json()["initialized"] is True
    assert api("HEAD", path, token="").status_code == 200


def test_the_version_that_clients_compare(api):
    """terraform-provider-vault asks for 1.15 or newer before it lists runtimes."""
    for path in ("sys/health", "sys/seal-status"):
        major, minor, _ = api("GET", path).json()["version"].split(".", 2)
        assert (int(major), int(minor)) >= (1, 15)
