"""The same for scripts: every call blocks until it is done. Not for a thread in which an event loop runs."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Self

from shim.client.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from shim.client.target import TlsFiles

__all__ = ["BlockingClient"]

_REST_S = 2.0


class BlockingClient:
    """A ``Client`` whose coroutines are plain methods, and whose streams are plain iterators."""

    def __init__(self, url: str, *, tls: TlsFiles | None = None, **options: Any) -> None:
        """As ``Client``."""
        self._runner = asyncio.Runner()
        try:
            self._client: Client | None = self._runner.run(_made(url, tls, options))
        except BaseException:
            self._runner.close()
            raise

    def __getattr__(self, name: str) -> Any:
        """As in ``Client``."""
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._client, name)
        if inspect.isasyncgenfunction(found):
            return lambda *args, **kwargs: self._iterated(found(*args, **kwargs))
        return self._blocking(found) if inspect.iscoroutinefunction(found) else found

    def _blocking(self, method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._runner.run(method(*args, **kwargs))

    def _iterated(self, stream: AsyncGenerator[Any, None]) -> Iterator[Any]:
        try:
            while (found := self._runner.run(_next(stream))) is not None:
                yield found
        finally:
            self._runner.run(stream.aclose())

    def close(self) -> None:
        """As in ``Client``; the event loop behind it is closed. Idempotent."""
        if self._client is not None:
            self._runner.run(_closed(self._client))
            self._runner.close()
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


async def _made(url: str, tls: TlsFiles | None, options: dict[str, Any]) -> Client:
    # Inside of the loop that it will belong to.
    return Client(url, tls=tls, **options)


async def _closed(client: Client) -> None:
    await client.close()
    # A call that was cancelled is over for grpc a moment later; in a loop that is closed by then it would fail, and leave its
    # descriptors open.
    if rest := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(rest, timeout=_REST_S)


async def _next(stream: AsyncIterator[Any]) -> Any:
    """None: there is nothing more."""
    return await anext(stream, None)
