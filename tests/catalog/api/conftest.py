"""The API in this process, without sockets: ``api("LIST", "sys/plugins/runtimes/catalog")`` gives an httpx response."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from shim.catalog import Catalog, Tokens
from shim.catalog.api.app import build_app
from shim.catalog.api.audit import AuditLog
from shim.catalog.api.backend import Backend
from shim.catalog.api.metrics import Metrics
from shim.catalog.api.settings import Settings

RUNTIMES = "sys/plugins/runtimes/catalog"
POLICY = """
path "sys/plugins/runtimes/catalog/*" {{ capabilities = [{0}] }}
path "sys/plugins/runtimes/catalog" {{ capabilities = [{0}] }}
"""


class Api:
    """One catalog and its API. ``peer`` is who the socket says has connected; ``root`` a token that may do all."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.audit_path = folder / "log" / "audit.log"
        self.catalog = Catalog("filesystem", str(folder))
        self.tokens = Tokens("filesystem", str(folder))
        self.root, _ = self.tokens.create(root=True)
        self.audit = AuditLog(str(self.audit_path))
        self.metrics = Metrics()
        self.peer: tuple[int, int, int] | None = (4711, 0, 0)
        self._runner = asyncio.Runner()
        self._runner.get_loop()
        self.backend = Backend(self.catalog, self.tokens)
        self.serve(settings)

    def serve(self, settings: Settings) -> None:
        """From now on, with these settings."""
        self._app = build_app(self.backend, self.audit, self.metrics, settings)

    async def _scoped(self, scope: Any, receive: Any, send: Any) -> None:
        state = {} if self.peer is None else {"peer": self.peer}
        await self._app({**scope, "state": state}, receive, send)

    def __call__(
        self, method: str, path: str, *, token: str | None = None, raw: bool = False, **request: Any
    ) -> httpx.Response:
        """The answer; ``token`` is root's unless it is given, and none if it is empty. ``raw``: not below /v1/."""
        token = self.root if token is None else token
        headers = {**({"X-Vault-Token": token} if token else {}), **request.pop("headers", {})}

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._scoped, client=("192.0.2.1", 4711))
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                return await client.request(
                    method, path if raw else f"/v1/{path}", headers=headers, **request
                )

        return self._runner.run(send())

    def run(self, make: Callable[[], Any]) -> Any:
        """The result of a coroutine in the API's loop."""
        return self._runner.run(make())

    async def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        """As a call, inside ``run``."""
        transport = httpx.ASGITransport(self._scoped)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            headers = {"X-Vault-Token": self.root, **request.pop("headers", {})}
            return await client.request(method, f"/v1/{path}", headers=headers, **request)

    def token(self, *capabilities: str) -> str:
        """The secret of a token with these capabilities on runtimes."""
        self.tokens.put_policy("some", POLICY.format(", ".join(f'"{word}"' for word in capabilities)))
        return self.tokens.create(["some"], display_name="somebody")[0]

    def audited(self) -> list[dict[str, Any]]:
        """The lines of the audit log, all of them; it is closed."""
        self.audit.close()
        return [json.loads(line) for line in self.audit_path.read_text().splitlines()]

    def close(self) -> None:
        self.audit.close()
        self._runner.close()


class MakeApi(Protocol):
    def __call__(self, **settings: Any) -> Api: ...


@pytest.fixture
def make_api(tmp_path: Path) -> Iterator[MakeApi]:
    """Makes an API with settings of its own."""
    made: list[Api] = []

    def make(**settings: Any) -> Api:
        made.append(Api(tmp_path / str(len(made)), Settings(**settings)))
        return made[-1]

    yield make
    for api in made:
        api.close()


@pytest.fixture
def api(make_api: MakeApi) -> Api:
    """An API as it is by default."""
    return make_api()


@pytest.fixture(scope="module")
def shared_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One for all examples of Hypothesis."""
    api = Api(tmp_path_factory.mktemp("api"), Settings(rate_limit=0))
    yield api
    api.close()
