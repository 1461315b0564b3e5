"""Sizes, rates, times, headers: what a request may not be."""

from __future__ import annotations

import asyncio
import threading

import pytest

from shim.catalog.api.app import MAX_CALLS
from shim.catalog.api.rate import RateLimit
from shim.errors import DataLoss

RUNTIMES = "sys/plugins/runtimes/catalog"
ONE = f"{RUNTIMES}/container/a"


def test_a_body_may_be_as_large_as_it_may(make_api):
    api = make_api(max_request_bytes=100)
    body = b'{"cgroup_parent": "' + b"x" * 80 + b'"}'
    assert api("POST", ONE, content=body[:19] + body[20:]).status_code == 204
    for content in (body, iter([body[:50], body[50:]])):
        chunks = content if isinstance(content, bytes) else _stream(content)
        answer = api("POST", ONE, content=chunks)
        assert answer.status_code == 413
        assert answer.json()["errors"] == ["http: request body too large; at most 100 bytes"]


async def _stream(parts):
    for part in parts:
        yield part


def test_what_has_no_meaning_is_not_read(make_api):
    api = make_api(max_request_bytes=10)
    assert api.run(lambda: api.ask("GET", RUNTIMES, content=b"x" * 1000)).status_code == 200


def test_a_client_that_asks_too_often(make_api):
    api = make_api(rate_limit=0.01, rate_burst=3)
    assert [api("GET", RUNTIMES).status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    answer = api("GET", RUNTIMES)
    assert answer.headers["retry-after"] == "100"
    assert "rate limit quota exceeded" in answer.json()["errors"][0]
    assert api("GET", "sys/health").status_code == 200, "who watches is not held up"
    api.peer = (4712, 1000, 1000)
    assert api("GET", RUNTIMES).status_code == 200, "another user"
    api.peer = None
    assert [api("GET", RUNTIMES).status_code for _ in range(4)] == [200, 200, 200, 429]


def test_tries_without_a_token_count(make_api):
    api = make_api(rate_limit=0.01, rate_burst=2)
    assert [api("GET", RUNTIMES, token="x").status_code for _ in range(3)] == [403, 403, 429]


class TestBucket:
    def test_fills_with_time_and_not_above_its_burst(self):
        limit = RateLimit(2.0, 2)
        assert [limit.take("a", 0.0) for _ in range(3)] == [0, 0, 0.5]
        assert [limit.take("a", 0.5) for _ in range(2)] == [0, 0.5]
        assert [limit.take("a", 1000.0) for _ in range(3)] == [0, 0, 0.5]

    def test_no_rate_is_no_limit(self):
        limit = RateLimit(0.0, 1)
        assert [limit.take("a", 0.0) for _ in range(9)] == [0] * 9

    def test_forgets_those_who_were_not_here_for_longest(self):
        limit = RateLimit(0.001, 1)
        assert limit.take("first", 0.0) == 0
        assert limit.take("first", 0.0) > 0
        for number in range(5000):
            limit.take(number, 0.0)
        assert limit.take("first", 0.0) == 0
        assert limit.take(4999, 0.0) > 0

    def test_retry_after_is_never_now(self):
        assert [RateLimit.retry_after(s) for s in (0.001, 1.0, 1.1)] == [1, 1, 2]


def test_a_header_that_no_browser_sends(make_api):
    api = make_api(require_request_header=True)
    answer = api("GET", RUNTIMES)
    assert (answer.status_code, answer.json()["errors"]) == (412, ["missing 'X-Vault-Request' header"])
    assert api("GET", RUNTIMES, headers={"X-Vault-Request": "true"}).status_code == 200


def test_wrapping_is_refused(api):
    answer = api("GET", RUNTIMES, headers={"X-Vault-Wrap-TTL": "60s"})
    assert answer.status_code == 400
    assert "X-Vault-Wrap-TTL" in answer.json()["errors"][0]


@pytest.mark.parametrize(
    ("namespace", "status"), [("", 200), ("/", 200), ("root", 200), ("root/", 200), ("a", 404)]
)
def test_there_is_one_namespace(api, namespace, status):
    assert api("GET", RUNTIMES, headers={"X-Vault-Namespace": namespace}).status_code == status


def test_a_request_that_does_not_arrive(make_api):
    api = make_api(request_timeout_s=0.05)

    async def endless():
        yield b"{"
        await asyncio.Event().wait()

    answer = api("POST", ONE, content=endless())
    assert answer.status_code == 408
    assert answer.json()["errors"] == ["the request has not arrived within 0.05 s"]


def test_a_disk_that_hangs(make_api, monkeypatch, caplog):
    """Whoever waits is told so; those who come when all threads hang are told, too; when it answers, all is well again."""
    api = make_api(request_timeout_s=0.3)
    answers, hangs = threading.Event(), threading.Semaphore(0)

    def hang():
        hangs.release()
        assert answers.wait(30)
        raise DataLoss("the disk was ill")

    monkeypatch.setattr(api.catalog, "runtimes", hang)

    async def storm():
        return await asyncio.gather(*(api.ask("GET", RUNTIMES) for _ in range(MAX_CALLS + 5)))

    found = sorted(answer.status_code for answer in api.run(storm))
    assert found == [503] * 5 + [504] * MAX_CALLS
    for _ in range(MAX_CALLS):
        assert hangs.acquire(timeout=30)
    assert not hangs.acquire(blocking=False), "no further thread was made"
    answers.set()
    monkeypatch.undo()

    async def until_it_answers():
        async with asyncio.timeout(30):
            while (answer := await api.ask("GET", RUNTIMES)).status_code != 200:
                pass
        return answer

    assert api.run(until_it_answers).json()["data"] == {"runtimes": []}


def test_a_broken_catalog_is_a_500_with_an_envelope(api, tmp_path, caplog):
    api("POST", ONE)
    (record,) = (tmp_path / "0" / "catalog").glob("*.json")
    record.write_bytes(b"{")
    answer = api("GET", ONE)
    assert answer.status_code == 500
    assert "is broken" in answer.json()["errors"][0]
    assert "is broken" in caplog.text


def test_a_fault_of_our_own_says_nothing_but_to_the_log(api, monkeypatch, caplog):
    monkeypatch.setattr(api.catalog, "runtimes", lambda: 1 / 0)
    answer = api("GET", RUNTIMES)
    assert (answer.status_code, answer.json()) == (500, {"errors": ["internal error"]})
    assert "ZeroDivisionError" in caplog.text


def test_writers_at_the_same_time_lose_nothing(api):
    names = [f"r{number}" for number in range(60)]

    async def register():
        posts = [api.ask("POST", f"{RUNTIMES}/container/{name}", json={"cpu_nanos": 1}) for name in names]
        return await asyncio.gather(*posts)

    assert {answer.status_code for answer in api.run(register)} == {204}
    assert [each["name"] for each in api("GET", RUNTIMES).json()["data"]["runtimes"]] == sorted(names)

    async def churn():
        deletes = [api.ask("DELETE", f"{RUNTIMES}/container/{name}") for name in names[::2]]
        posts = [
            api.ask("POST", f"{RUNTIMES}/container/{name}", json={"cpu_nanos": 2}) for name in names[1::2]
        ]
        return await asyncio.gather(*deletes, *posts)

    assert {answer.status_code for answer in api.run(churn)} == {204}
    left = api("GET", RUNTIMES).json()["data"]["runtimes"]
    assert {each["name"]: each["cpu_nanos"] for each in left} == dict.fromkeys(names[1::2], 2)


def test_a_runtime_that_a_plugin_gets_meanwhile_stays(api):
    """Of registering a plugin and deleting its runtime at the same time exactly one succeeds."""
    names = [f"r{number}" for number in range(30)]

    async def race():
        await asyncio.gather(*(api.ask("POST", f"{RUNTIMES}/container/{name}") for name in names))
        body = {"sha256": "a" * 64, "oci_image": "i"}
        plugins = [
            api.ask("POST", f"sys/plugins/catalog/secret/{n}", json={**body, "runtime": n}) for n in names
        ]
        deletes = [api.ask("DELETE", f"{RUNTIMES}/container/{name}") for name in names]
        both = [each for pair in zip(plugins, deletes, strict=True) for each in pair]
        return await asyncio.gather(*both)

    answers = [answer.status_code for answer in api.run(race)]
    assert {tuple(sorted(pair)) for pair in zip(answers[::2], answers[1::2], strict=True)} == {(204, 400)}
    left = {runtime.name for runtime in api.catalog.runtimes()}
    assert {plugin.runtime for plugin in api.catalog.plugins()} == left
