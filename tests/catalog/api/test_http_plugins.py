"""The catalog of plugins over HTTP."""

from __future__ import annotations

import pytest

CATALOG = "sys/plugins/catalog"
SHA = "0123456789abcdef" * 4
BODY = {"sha256": SHA.upper(), "command": "run --fast", "env": ["PASSWORD=hunter2"], "version": "1.2"}


def test_register_read_list_delete(api):
    assert api("POST", f"{CATALOG}/secret/kv", json=BODY).status_code == 204
    read = api("GET", f"{CATALOG}/secret/kv?version=v1.2.0")
    assert read.json()["data"] == {
        "name": "kv",
        "args": ["--fast"],
        "command": "run",
        "sha256": SHA,
        "builtin": False,
        "version": "v1.2.0",
    }
    everything = api("GET", CATALOG).json()["data"]
    assert (everything["secret"], everything["auth"], everything["database"]) == (["kv"], [], [])
    assert everything["detailed"][0]["version"] == "v1.2.0"
    for method in ("LIST", "GET"):
        assert api(method, f"{CATALOG}/secret").json()["data"] == {"keys": ["kv"]}
    assert api("LIST", f"{CATALOG}/auth").status_code == 404
    assert api("DELETE", f"{CATALOG}/secret/kv").status_code == 204, "as Vault: whether it was there or not"
    assert api("GET", f"{CATALOG}/secret/kv?version=1.2").status_code == 200
    assert api("DELETE", f"{CATALOG}/secret/kv", json={"version": "1.2.0"}).status_code == 204
    gone = api("GET", f"{CATALOG}/secret/kv?version=1.2")
    assert (gone.status_code, gone.json()) == (404, {"errors": []})


def test_the_environment_is_never_told(api):
    api("POST", f"{CATALOG}/secret/kv", json=BODY)
    answers = [
        api("GET", f"{CATALOG}/secret/kv?version=1.2"),
        api("GET", CATALOG),
        api("LIST", f"{CATALOG}/secret"),
        api("POST", f"{CATALOG}/secret/kv", json={**BODY, "env": ["hunter2"]}),
        api("POST", f"{CATALOG}/secret/kv", json={**BODY, "env": {"hunter2": 1}}),
    ]
    assert all(b"hunter2" not in answer.content for answer in answers)
    assert "hunter2" not in str(api.audited())
    assert api.catalog.plugin("secret", "kv", "1.2").env == ("PASSWORD=hunter2",)


def test_its_runtime_must_be_there(api):
    body = {"sha256": SHA, "oci_image": "example/kv", "runtime": "gvisor"}
    answer = api("POST", f"{CATALOG}/secret/kv", json=body)
    assert answer.status_code == 400
    (text,) = answer.json()["errors"]
    assert text == (
        'failed to get configured runtime for plugin "kv": failed to retrieve container plugin runtime "gvisor": '
        "plugin runtime not found"
    )
    api("POST", "sys/plugins/runtimes/catalog/container/gvisor")
    assert api("POST", f"{CATALOG}/secret/kv", json=body).status_code == 204
    data = api("GET", f"{CATALOG}/secret/kv").json()["data"]
    assert (data["oci_image"], data["runtime"]) == ("example/kv", "gvisor")


def test_unknown_fields_are_told(api):
    answer = api("PUT", f"{CATALOG}/auth/a", json={**BODY, "speed": 9})
    assert answer.status_code == 200
    assert answer.json()["warnings"] == ["Endpoint ignored these unrecognized parameters: [speed]"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": ""}, "missing SHA-256 value"),
        ({"sha256": "zz"}, "SHA-256"),
        ({"sha256": 3}, 'field "sha256"'),
        ({"command": ""}, "must provide at least one of command or oci_image"),
        ({"command": "a b", "args": ["c"]}, "must not specify args in command and args field"),
        ({"args": [1], "command": "a"}, 'field "args"'),
        ({"version": "one"}, "not a valid semantic version"),
        ({"version": "1.0.0+builtin"}, "reserved metadata identifier"),
        ({"env": ["a\0=b"]}, 'field "env"'),
    ],
)
def test_a_field_that_cannot_be(api, change, said):
    answer = api("POST", f"{CATALOG}/secret/kv", json={**BODY, **change})
    assert answer.status_code == 400
    assert said in answer.json()["errors"][0]
    assert api.catalog.plugins() == []


@pytest.mark.parametrize("query", ["version=one", "version=1&version=2"])
def test_a_version_that_is_none(api, query):
    assert api("GET", f"{CATALOG}/secret/kv?{query}").status_code == 400
    assert api("DELETE", f"{CATALOG}/secret/kv?{query}").status_code == 400


@pytest.mark.parametrize("path", [f"{CATALOG}/vm/a", f"{CATALOG}/secret/a/b", f"{CATALOG}/secret/..%2f"])
def test_paths_that_are_none(api, path):
    assert api("POST", path, json=BODY).status_code == 404
