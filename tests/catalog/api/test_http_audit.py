"""What is written down about requests, and what is counted."""

from __future__ import annotations

import errno
import os
import threading
import time

import pytest

from shim.catalog.api import audit as audit_module
from shim.catalog.api.audit import AuditLog
from shim.errors import NotFound, ShimError, Unavailable

RUNTIMES = "sys/plugins/runtimes/catalog"
ONE = f"{RUNTIMES}/container/a"


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_line_for_each_request(api):
    token = api.token("update", "sudo")
    api("POST", ONE, token=token, json={"cpu_nanos": 1, "oci_runtime": "secret-runtime"})
    api("GET", ONE, token=token)
    api("GET", f"{RUNTIMES}?type=container", token="ocs.nobody")
    api("GET", "sys/health")
    api("NOPE", ONE, token="")
    api.peer = None
    api("POST", ONE, content=b"{", token=token)
    lines = api.audited()
    assert [(line["method"], line["status"], line["operation"]) for line in lines] == [
        ("POST", 204, "update"),
        ("GET", 403, "read"),
        ("GET", 403, "read"),
        ("NOPE", 405, ""),
        ("POST", 400, ""),
    ]
    first = lines[0]
    assert first["client"] == {"pid": 4711, "uid": 0, "gid": 0}
    assert first["path"] == f"/v1/{ONE}"
    assert first["parameters"] == ["cpu_nanos", "oci_runtime"]
    accessor = api.tokens.lookup(token).accessor
    assert first["token"] == {
        "accessor": accessor,
        "display_name": "somebody",
        "policies": list(api.tokens.lookup(token).policies),
    }
    assert first["time"].endswith("Z")
    assert len(first["id"]) == 36
    assert lines[1]["token"]["accessor"] == accessor
    assert lines[2]["token"].keys() == {"hmac"}
    assert lines[3]["token"] == {}
    assert lines[4]["client"] == {"address": "192.0.2.1:4711"}


def test_no_secret_is_in_it(api):
    token = api.token("read", "sudo")
    api("GET", ONE, token=token)
    api("GET", ONE, token="hunter2")
    api("GET", f"{RUNTIMES}?password=hunter2")
    api("POST", ONE, json={"oci_runtime": "hunter2"})
    api("POST", ONE, data={"cpu_nanos": "hunter2"})
    text = str(api.audited())
    for secret in (token, api.root, "hunter2"):
        assert secret not in text


def test_the_same_try_is_the_same_hash(api):
    for token in ("one", "two", "one"):
        api("GET", ONE, token=token)
    first, second, third = (line["token"]["hmac"] for line in api.audited())
    assert first == third != second


def test_it_is_for_its_owner_alone(api):
    assert api.audit_path.stat().st_mode & 0o777 == 0o600
    assert api.audit_path.parent.stat().st_mode & 0o777 == 0o700


def test_names_that_are_long_or_many_are_cut(api):
    api("GET", f"{RUNTIMES}/container/{'a' * 5000}")
    api("POST", ONE, json={f"{number}{'a' * 5000}": 1 for number in range(40)})
    first, second = api.audited()
    assert len(first["path"]) == 1024
    assert {len(name) for name in second["parameters"]} == {1024}
    assert len(second["parameters"]) == 32


def test_reopened_after_a_rotation(api):
    api("GET", ONE)
    until(lambda: api.audit_path.stat().st_size)
    old = api.audit_path.rename(api.audit_path.with_name("audit.log.1"))
    api.audit.reopen(str(api.audit_path))
    api("GET", RUNTIMES)
    (line,) = api.audited()
    assert line["path"] == f"/v1/{RUNTIMES}"
    assert len(old.read_text().splitlines()) == 1


def test_what_cannot_be_opened(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ShimError, match=r"the audit log .* cannot be opened"):
        AuditLog(f"{tmp_path}/file/audit.log")
    log = AuditLog(f"{tmp_path}/audit.log")
    with pytest.raises(ShimError, match="cannot be opened"):
        log.reopen(f"{tmp_path}/file/audit.log")
    log.add({"goes": "on"})
    log.write()
    log.close()
    assert "goes" in (tmp_path / "audit.log").read_text()


def test_reopened_twice_at_once_leaks_nothing(tmp_path):
    before = os.listdir("/proc/self/fd")
    log = AuditLog(f"{tmp_path}/a")
    for number in range(20):
        log.reopen(f"{tmp_path}/{number}")
    log.close()
    assert os.listdir("/proc/self/fd") == before


def test_while_nothing_can_be_written_nothing_is_done(api, monkeypatch, caplog):
    """The disk is full, for a while: no request but those of who watches is answered; then it goes on, and no line is lost."""
    monkeypatch.setattr(audit_module, "_RETRY_S", 0.01)
    full = True
    write = os.write

    def write_if_there_is_room(fd, data):
        if full and fd > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[:7])  # what a disk that is almost full does

    monkeypatch.setattr(os, "write", write_if_there_is_room)
    for method, path in (("GET", RUNTIMES), ("POST", ONE)):
        answer = api(method, path)
        assert answer.status_code == 503
        assert answer.json()["errors"] == ["the audit log cannot be written: No space left on device"]
    assert api("GET", "sys/health").status_code == 200
    assert api.catalog.runtimes() == []
    full = False
    until(lambda: "is written again" in caplog.text)
    assert api("POST", ONE).status_code == 204
    assert [(line["method"], line["status"]) for line in api.audited()] == [("GET", 200), ("POST", 204)]


def test_a_line_is_there_before_its_answer(api):
    for number in range(1, 101):
        api("GET", ONE)
        assert api.audit_path.read_bytes().count(b"\n") == number


def test_an_answer_waits_for_a_disk_that_hangs_as_long_as_it_may(make_api, monkeypatch):
    api = make_api(request_timeout_s=0.05)
    answered, write = threading.Event(), os.write

    def write_when_it_is_over(fd, data):
        assert answered.wait(30)
        return write(fd, data)

    monkeypatch.setattr(os, "write", write_when_it_is_over)
    answer = api("POST", ONE)
    answered.set()
    assert answer.status_code == 504
    assert answer.json() == {"errors": ["the catalog's disk has not answered within 0.05 s"]}
    assert [line["status"] for line in api.audited()] == [204], "what it has done"


def test_it_waits_for_no_more_than_it_may(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(audit_module, "_MAX_WAITING", 3)
    monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "sick")))
    log = AuditLog(f"{tmp_path}/audit.log")
    for number in range(3):
        log.add({"number": number})
    with pytest.raises(Unavailable, match="3 lines wait"):
        log.check()
    log.close()
    assert "3 lines of the audit log" in caplog.text


class TestMetrics:
    def page(self, api, **request):
        return api("GET", "/metrics", raw=True, **request)

    def test_counts_what_was_answered(self, api):
        api("POST", ONE)
        api("GET", ONE)
        api("GET", ONE)
        api("GET", "nothing")
        text = self.page(api, token="").text
        assert 'ocishim_http_requests_total{endpoint="runtime",operation="read",status="200"} 2.0' in text
        assert 'ocishim_http_requests_total{endpoint="runtime",operation="update",status="204"} 1.0' in text
        assert 'ocishim_http_requests_total{endpoint="",operation="read",status="404"} 1.0' in text
        assert 'ocishim_http_request_seconds_count{endpoint="runtime"} 3.0' in text
        assert "ocishim_http_requests_running 0.0" in text
        assert "ocishim_build_info{" in text

    def test_over_tcp_it_asks_for_a_token(self, api):
        api.peer = None
        assert self.page(api, token="").json() == {"errors": ["missing client token"]}
        assert self.page(api, token=api.token("read", "sudo")).status_code == 403
        assert self.page(api).status_code == 200
        api.tokens.put_policy("watch", 'path "sys/metrics" { capabilities = ["read"] }')
        assert self.page(api, token=api.tokens.create(["watch"])[0]).status_code == 200

    def test_who_asks_with_a_token_is_in_the_audit_log(self, api):
        self.page(api, token="")
        api.peer = None
        for token in ("", "ocs.a-try", None):
            self.page(api, token=token)
        assert 'endpoint="metrics",operation="",status="200"} 3.0' in self.page(api).text
        lines = api.audited()
        assert [(line["path"], line["status"]) for line in lines] == [
            ("/metrics", 403),
            ("/metrics", 403),
            ("/metrics", 200),
            ("/metrics", 200),
        ]
        assert lines[0]["token"] == {}
        assert lines[1]["token"].keys() == {"hmac"}
        assert lines[2]["token"]["policies"] == ["root"]

    def test_or_not(self, make_api):
        api = make_api(open_metrics=True)
        api.peer = None
        assert self.page(api, token="").status_code == 200

    def test_is_only_read(self, api):
        assert api("POST", "/metrics", raw=True).status_code == 405
        assert api("HEAD", "/metrics", raw=True).status_code == 200


def test_the_file_may_not_be_there_in_the_end(tmp_path):
    with pytest.raises(NotFound, match="audit log"):
        AuditLog("/proc/nothing/audit.log")
