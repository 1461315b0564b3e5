"""Whatever is sent: never a fault, always an envelope, and nothing outside of the catalog."""

from __future__ import annotations

import json
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

ROOTS = ("sys/plugins/runtimes/catalog", "sys/plugins/catalog", "sys/health", "auth/token/lookup-self", "sys")
FIELDS = (
    "oci_runtime", "cgroup_parent", "cpu_nanos", "memory_bytes", "cpu", "memory", "rootless", "type", "name", "sha256",
    "sha_256", "command", "args", "env", "oci_image", "runtime", "version", "list", "paths", "path",
)  # fmt: skip

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["a" * 64, "container", "runc", "1.2.3"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=20), values, max_size=6)
bodies = (
    st.binary(max_size=200)
    | objects.map(lambda value: json.dumps(value).encode())
    | values.map(lambda value: json.dumps(value).encode())
)
methods = st.sampled_from(["GET", "HEAD", "LIST", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
parts = st.sampled_from(["container", "secret", "auth", "database", "a", "b.c", "..", "", "vm"]) | st.text(
    max_size=12
)
paths = st.builds(
    lambda root, more: "/".join([root, *(quote(part, safe="") for part in more)]),
    st.sampled_from(ROOTS),
    st.lists(parts, max_size=3),
)
queries = st.lists(
    st.tuples(st.sampled_from(FIELDS) | st.text(max_size=8), st.text(max_size=8)), max_size=3
) | st.binary(max_size=20)
headers = st.dictionaries(
    st.sampled_from(
        [
            "X-Vault-Token",
            "Authorization",
            "X-Vault-Wrap-TTL",
            "X-Vault-Namespace",
            "X-Vault-Request",
            "Content-Type",
        ]
    ),
    st.binary(max_size=20) | st.sampled_from([b"application/x-www-form-urlencoded", b"Bearer x"]),
    max_size=2,
)


@settings(max_examples=300, deadline=None)
@given(method=methods, path=paths, query=queries, body=bodies, header=headers)
def test_always_an_envelope(shared_api, method, path, query, body, header):
    api = shared_api
    text = quote(query) if isinstance(query, bytes) else "&".join(f"{quote(k)}={quote(v)}" for k, v in query)
    answer = api(method, f"{path}?{text}" if text else path, content=body, headers=header)
    assert answer.status_code < 500, (answer.status_code, answer.text)
    assert answer.headers["cache-control"] == "no-store"
    if answer.status_code == 204:
        assert answer.content == b""
        return
    assert answer.headers["content-type"] == "application/json"
    if method == "HEAD":
        assert answer.content == b""
        return
    envelope = answer.json()
    if answer.status_code >= 400:
        assert envelope.keys() == {"errors"}
        assert all(isinstance(text, str) and text for text in envelope["errors"])
    else:
        assert "request_id" in envelope or envelope["initialized"] is True


@settings(max_examples=40, deadline=None)
@given(data=objects)
def test_what_is_registered_is_read_again(shared_api, data):
    """Whatever is taken is kept as it was sent, and the list is never broken by it."""
    path = "sys/plugins/runtimes/catalog/container/fuzzed"
    answer = shared_api("POST", path, content=json.dumps(data).encode())
    assert answer.status_code in {200, 204, 400}
    if answer.status_code == 400:
        return
    read = shared_api("GET", path).json()["data"]
    for key in ("oci_runtime", "cgroup_parent"):
        assert read[key] == (data.get(key) or "")
    assert read in shared_api("GET", "sys/plugins/runtimes/catalog").json()["data"]["runtimes"]
