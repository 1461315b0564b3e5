"""The containers of one shim process, by id, and when the process has nothing left to do.

An id is taken from the moment Create begins, so that of two Creates at once one gets AlreadyExists; it is free again when
Create has failed or Delete has succeeded. A Delete ends a Create that is going on: containerd sends it when it has given up on
one, and would else leave a shim that waits for a client of the streams.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import AlreadyExists, Canceled, NotFound, ShimError
from shim.task import create

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shim.task import Container, CreateRequest, Workshop

__all__ = ["Containers"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Making:
    """A container that is being made, by the Create in ``task``."""

    bundle: str
    task: asyncio.Task[object] | None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    unwanted: bool = False

    def give_up(self) -> None:
        if self.task is not None and not self.unwanted:
            self.unwanted = True
            self.task.cancel()


class Containers:
    """``on_empty`` is called when there are no containers, now or later, after a Shutdown was asked for.

    ``on_change`` is called before and after a container is made, and when one is gone.
    """

    def __init__(
        self, shop: Workshop, on_empty: Callable[[], None], on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._shop = shop
        self._on_empty = on_empty
        self._on_change = on_change
        self._by_id: dict[str, Container] = {}
        self._creating: dict[str, _Making] = {}
        self._removals: set[asyncio.Task[None]] = set()
        self._shutdown_asked = False

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id) + len(self._creating)

    def get(self, container_id: str) -> Container:
        """The container of that id.

        Raises:
            NotFound: there is none.
        """
        if (found := self._by_id.get(container_id)) is None:
            raise NotFound(f"container not created: {container_id}")
        return found

    def find(self, container_id: str) -> Container | None:
        """The container of that id, if there is one."""
        return self._by_id.get(container_id)

    @property
    def creating(self) -> list[str]:
        """The ids of those that are just being made."""
        return list(self._creating)

    def bundles(self) -> set[str]:
        """The bundles of all containers, also of those that are just being made."""
        return {str(container.bundle.path) for container in self} | {
            m.bundle for m in self._creating.values()
        }

    async def create(self, request: CreateRequest) -> Container:
        """A new container.

        Raises:
            AlreadyExists: the id is taken.
            Canceled: it was given up.
            ShimError: it cannot be made; the id is free again.
        """
        if request.id in self._by_id or request.id in self._creating:
            raise AlreadyExists(f"container {request.id}")
        making = self._creating[request.id] = _Making(request.bundle, asyncio.current_task())
        try:
            self._on_change()
            container = await create(self._shop, request)
            self._by_id[request.id] = container
        except asyncio.CancelledError:
            if not making.unwanted or making.task is None:
                raise
            making.task.uncancel()
            raise Canceled(f"container {request.id} was deleted while it was created") from None
        finally:
            del self._creating[request.id]
            making.over.set()
            self._on_change()
            self._check_empty()
        if request.config.auto_remove:
            removal = asyncio.create_task(self._remove_at_end(container))
            self._removals.add(removal)
            removal.add_done_callback(self._removals.discard)
        return container

    async def give_up_create(self, container_id: str) -> None:
        """No container of that id is being made any more; one that was is as if it had never been asked for."""
        if (making := self._creating.get(container_id)) is not None:
            making.give_up()
            await making.over.wait()

    def forget(self, container: Container) -> None:
        """The container is deleted; its id is free."""
        # By then the id may be another one's.
        if self._by_id.get(container.id) is container:
            del self._by_id[container.id]
        self._on_change()
        self._check_empty()

    async def drop_lost(self) -> None:
        """Of containers that do not run and whose bundles are gone nothing is left."""
        for container in self:
            if container.lost:
                _log.warning(
                    "container %s does not run and its bundle is gone: nobody will delete it", container.id
                )
                with suppress(ShimError):
                    await container.delete()
                    self.forget(container)

    def ask_shutdown(self) -> None:
        """End as soon as there are no containers, now or later: Shutdown need not be the call after the last Delete."""
        self._shutdown_asked = True
        self._check_empty()

    def _check_empty(self) -> None:
        if self._shutdown_asked and not len(self):
            self._on_empty()

    async def _remove_at_end(self, container: Container) -> None:
        with suppress(NotFound):
            await container.wait()
        # Whoever waits for the exit is to hear of it before the container is unknown: their tasks were woken first.
        await asyncio.sleep(0)
        try:
            await container.delete()
        except NotFound:
            _log.info(
                "container %s was to be removed at its end, and somebody has deleted it before", container.id
            )
        except ShimError as error:
            _log.warning("container %s was to be removed at its end, and could not: %s", container.id, error)
            return
        else:
            _remove_own_bundle(container)
        self.forget(container)
        self.ask_shutdown()


def _remove_own_bundle(container: Container) -> None:
    # A bundle that lies elsewhere is the client's.
    if container.bundle.path.parent == Path(container.config.state_root, "containers"):
        shutil.rmtree(container.bundle.path, ignore_errors=True)
