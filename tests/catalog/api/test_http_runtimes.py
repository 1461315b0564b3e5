"""The catalog of runtimes over HTTP, held against the documentation that it follows."""

from __future__ import annotations

import pytest

RUNTIMES = "sys/plugins/runtimes/catalog"
ONE = f"{RUNTIMES}/container/example-plugin-runtime"
PAYLOAD = {
    "oci_runtime": "example-oci-runtime",
    "cgroup_parent": "/examplelimit/",
    "cpu_nanos": 1000,
    "memory_bytes": 10000000,
}
DATA = {"name": "example-plugin-runtime", "type": "container", **PAYLOAD, "rootless": False}


def errors(answer):
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json().keys() == {"errors"}
    return answer.json()["errors"]


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_register_and_read(api, method):
    answer = api(method, ONE, json=PAYLOAD)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["cache-control"] == "no-store"
    read = api("GET", ONE)
    assert read.status_code == 200
    assert read.headers["content-type"] == "application/json"
    assert read.headers["cache-control"] == "no-store"
    assert read.content.endswith(b"}\n")
    envelope = read.json()
    assert len(envelope.pop("request_id")) == 36
    assert envelope == {
        "lease_id": "",
        "renewable": False,
        "lease_duration": 0,
        "data": DATA,
        "wrap_info": None,
        "warnings": None,
        "auth": None,
        "mount_type": "system",
    }


def test_head_is_get_without_a_body(api):
    api("POST", ONE, json=PAYLOAD)
    head = api("HEAD", ONE)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(api("GET", ONE).content)
    assert api("HEAD", f"{RUNTIMES}/container/nobody").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("LIST", RUNTIMES),
        ("LIST", f"{RUNTIMES}/"),
        ("GET", RUNTIMES),
        ("GET", f"{RUNTIMES}/"),
        ("GET", f"{RUNTIMES}?list=true"),
        ("GET", f"{RUNTIMES}/?list=1"),
        ("GET", f"{RUNTIMES}?list=false"),
        ("LIST", f"{RUNTIMES}?type=container"),
        ("GET", f"{RUNTIMES}?type=container"),
    ],
)
def test_list(api, method, path):
    for name in ("b", "a"):
        api("POST", f"{RUNTIMES}/container/{name}", json=PAYLOAD)
    answer = api(method, path)
    assert answer.status_code == 200
    assert answer.json()["data"] == {"runtimes": [{**DATA, "name": "a"}, {**DATA, "name": "b"}]}


def test_nothing_to_list(api):
    for method, query in (("LIST", ""), ("GET", "?list=true")):
        answer = api(method, RUNTIMES + query)
        assert (answer.status_code, errors(answer)) == (404, [])
    assert api("GET", RUNTIMES).json()["data"] == {"runtimes": []}


def test_delete(api):
    api("POST", ONE, json=PAYLOAD)
    assert api("DELETE", ONE).status_code == 204
    assert api("GET", ONE).status_code == 404
    again = api("DELETE", ONE)
    assert (again.status_code, errors(again)) == (404, ["plugin runtime not found"])


def test_of_a_name_that_nobody_has(api):
    answer = api("GET", f"{RUNTIMES}/container/nobody")
    assert answer.status_code == 404
    assert errors(answer) == [
        'failed to retrieve container plugin runtime "nobody": plugin runtime not found'
    ]


def test_registering_again_replaces_all(api):
    api("POST", ONE, json={**PAYLOAD, "rootless": True})
    assert api("PUT", ONE, json={"cpu_nanos": "7"}).status_code == 204
    assert api("GET", ONE).json()["data"] == {
        **DATA,
        "oci_runtime": "",
        "cgroup_parent": "",
        "cpu_nanos": 7,
        "memory_bytes": 0,
    }


@pytest.mark.parametrize("body", [b"", b"  \n", b"{}"])
def test_all_defaults(api, body):
    assert api("POST", ONE, content=body).status_code == 204
    assert api("GET", ONE).json()["data"]["cpu_nanos"] == 0


def test_what_go_sends(api):
    """The older and the newer names of fields, and the number of an enumeration where there is a type in the path."""
    body = {"type": 1, "name": "example-plugin-runtime", "cpu": 1000, "memory": 10000000}
    assert api("PUT", ONE, json=body).status_code == 204
    assert api("GET", ONE).json()["data"]["memory_bytes"] == 10000000


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", "", "text/plain"])
def test_json_is_json_whatever_it_is_called(api, kind):
    answer = api("POST", ONE, content=b' {"cpu_nanos": 5}', headers={"Content-Type": kind})
    assert answer.status_code == 204
    assert api("GET", ONE).json()["data"]["cpu_nanos"] == 5


def test_a_form_is_taken(api):
    assert api("POST", ONE, data={"cpu_nanos": "5", "oci_runtime": "a b&c=d"}).status_code == 204
    assert api("GET", ONE).json()["data"]["oci_runtime"] == "a b&c=d"


def test_warnings(api):
    body = {"z": 1, "a": None, "cpu_nanos": 1, "type": "vm", "name": "other"}
    answer = api("POST", ONE, json=body)
    assert answer.status_code == 200
    assert answer.json()["data"] is None
    assert answer.json()["warnings"] == [
        "Endpoint ignored these unrecognized parameters: [a z]",
        "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: [name type]",
    ]
    assert api("GET", ONE).json()["data"]["name"] == "example-plugin-runtime"


def test_a_limit_in_the_query_is_none_and_that_is_said(api):
    answer = api("POST", f"{ONE}?memory_bytes=5&cpu_nanos", json={"z": 1})
    assert answer.json()["warnings"] == [
        "Endpoint ignored these unrecognized parameters: [cpu_nanos memory_bytes z]"
    ]
    assert api("GET", ONE).json()["data"]["memory_bytes"] == 0


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("cpu_nanos", -1, "runtime cpu in nanos cannot be negative"),
        ("memory_bytes", "-1", "runtime memory in bytes cannot be negative"),
        ("cpu_nanos", "many", 'error converting input "many" for field "cpu_nanos"'),
        ("cpu_nanos", 1.5, 'field "cpu_nanos"'),
        ("cpu_nanos", True, 'field "cpu_nanos"'),
        ("cpu_nanos", [], 'field "cpu_nanos"'),
        ("cpu_nanos", {}, 'field "cpu_nanos"'),
        ("cpu_nanos", 2**63, 'field "cpu_nanos"'),
        ("memory_bytes", 10**40, 'field "memory_bytes"'),
        ("memory_bytes", "1e3", 'field "memory_bytes"'),
        ("rootless", "perhaps", 'field "rootless"'),
        ("rootless", 2, 'field "rootless"'),
        ("oci_runtime", 3, 'field "oci_runtime"'),
        ("oci_runtime", ["runc"], 'field "oci_runtime"'),
        ("oci_runtime", "a\0b", 'field "oci_runtime"'),
        ("oci_runtime", "a\nb", 'field "oci_runtime"'),
        ("cgroup_parent", {}, 'field "cgroup_parent"'),
        ("cgroup_parent", "/a/../..", "must not contain '..'"),
    ],
)
def test_a_field_that_cannot_be(api, field, value, said):
    answer = api("POST", ONE, json={field: value})
    assert answer.status_code == 400
    (text,) = errors(answer)
    assert said in text
    assert api("GET", ONE).status_code == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "error parsing JSON"),
        (b"[]", "an object is needed"),
        (b"3", "an object is needed"),
        (b"null", "an object is needed"),
        (b'"text"', "an object is needed"),
        (b'{"cpu_nanos": NaN}', "NaN is no JSON"),
        (b'{"cpu_nanos": -Infinity}', "-Infinity is no JSON"),
        (b'{"cpu_nanos": 1, "cpu_nanos": 1}', "'cpu_nanos' is there twice"),
        (b'{"cpu_nanos": 1, "x": {"a": 1, "\\u0061": 2}}', "'a' is there twice"),
        (b'{"cpu_nanos": 1} trailing', "error parsing JSON"),
        (b'{"cpu_nanos": ' + b"9" * 5000 + b"}", "error parsing JSON"),
        (b"[" * 100_000, "error parsing JSON"),
        (b'{"oci_runtime": "\xff"}', "byte 17 is not UTF-8"),
        (b'{"oci_runtime": "\\ud800"}', "half of a surrogate pair"),
        (b'{"\\udfff": 1}', "half of a surrogate pair"),
        ('{"cpu_nanos": 1}'.encode("utf-16"), "is not UTF-8"),
        ('{"cpu_nanos": 1}'.encode("utf-8-sig"), "error parsing JSON"),
        (b"\0", "error parsing JSON"),
    ],
)
def test_a_body_that_cannot_be(api, body, said):
    answer = api("POST", ONE, content=body)
    assert answer.status_code == 400
    (text,) = errors(answer)
    assert said in text
    assert "\n" not in text
    assert api("GET", ONE).status_code == 404


@pytest.mark.parametrize(
    "name",
    [
        "%2e%2e",  # as it is, the client would take it for itself
        "..%2f..%2fetc",
        "a%2fb",
        "a/b",
        "-a",
        "a-",
        ".a",
        "a.",
        "a%00b",
        "a%0a",
        "%0aa",
        "a%20b",
        "%c3%a4",
        "a%ff",
        "a" * 257,
        "",
        "a/",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_names_that_escape(api, method, name, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    answer = api(method, f"{RUNTIMES}/container/{name}")
    assert (answer.status_code, errors(answer)) == (404, ["unsupported path"])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["a", "_", "7", "a" * 256, "a.b-c_d", "A"])
def test_names_that_do_not(api, name):
    assert api("POST", f"{RUNTIMES}/container/{name}").status_code == 204
    assert api("GET", f"{RUNTIMES}/container/{name}").json()["data"]["name"] == name


@pytest.mark.parametrize(
    "path",
    [
        f"{RUNTIMES}/vm/a",
        f"{RUNTIMES}/Container/a",
        f"{RUNTIMES}/container",
        f"{RUNTIMES}//",
        "sys",
        "sys/mounts",
        "",
        "secret/a",
    ],
)
def test_paths_that_are_none(api, path):
    answer = api("GET", path)
    assert (answer.status_code, errors(answer)) == (404, ["unsupported path"])


def test_paths_outside_of_the_api(api):
    for path in ("/", "/v2/sys/health", "/v1", "/ui", "/%0a"):
        answer = api("GET", path, raw=True)
        assert (answer.status_code, errors(answer)) == (404, ["unsupported path"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("LIST", ONE),
        ("GET", f"{ONE}?list=true"),
        ("PATCH", ONE),
        ("OPTIONS", ONE),
        ("TRACE", ONE),
        ("NOPE", ONE),
        ("POST", RUNTIMES),
        ("DELETE", RUNTIMES),
        ("POST", "sys/health"),
    ],
)
def test_operations_that_are_none(api, method, path):
    answer = api(method, path)
    assert (answer.status_code, errors(answer)) == (405, ["unsupported operation"])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("type=vm", '"vm" is not a supported plugin runtime type'),
        ("type=container&type=vm", "type is given more than once"),
        ("list=perhaps", 'for field "list"'),
        ("list=true&list=true", 'for field "list"'),
        ("type=%ff", "error parsing query data"),
        ("&".join("a=1" for _ in range(2000)), "error parsing query data"),
    ],
)
def test_queries_that_cannot_be(api, query, said):
    answer = api("GET", f"{RUNTIMES}?{query}")
    assert answer.status_code == 400
    assert said in errors(answer)[0]


def test_a_runtime_in_use_stays(api):
    api("POST", ONE)
    for name in ("p2", "p1"):
        body = {"sha256": "a" * 64, "oci_image": "i", "runtime": "example-plugin-runtime"}
        assert api("POST", f"sys/plugins/catalog/secret/{name}", json=body).status_code == 204
    answer = api("DELETE", ONE)
    assert answer.status_code == 400
    assert errors(answer) == [
        'unable to delete "example-plugin-runtime" runtime. Registered plugins=[p1 p2] are referencing it.'
    ]
    for name in ("p2", "p1"):
        assert api("DELETE", f"sys/plugins/catalog/secret/{name}").status_code == 204
    assert api("DELETE", ONE).status_code == 204
