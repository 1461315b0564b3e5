"""Which plugin has which address of the networks.

One record for each network, changed under the lock of their directory. An address is taken for as long as its plugin's
directory exists; that is made before, and removed after, so whatever a killed process left in a record is free for the next
one.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, from_os_error
from shim.linux.locks import locked_directory
from shim.net.route import parse_host
from shim.store.storage import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from shim.net.route import Host
    from shim.plugin.container.networks import NamedNetwork
    from shim.store.storage import Storage

__all__ = ["Addresses"]

_FOLDER = "networks"


class Addresses:
    """Who has which address. ``alive`` tells whether a plugin of that id still exists. All calls block as disks do."""

    def __init__(self, state_root: str, storage: str, alive: Callable[[str], bool]) -> None:
        self._folder = Path(state_root, _FOLDER)
        self._storage: Storage = open_storage(storage, Path(state_root))
        self._alive = alive

    def take(self, network: NamedNetwork, owner: str, wanted: str = "") -> Host:
        """An address of ``network`` that is ``owner``'s alone: the one that is wanted, or the lowest free one.

        Raises:
            InvalidArgument: what is wanted is not one that a plugin can have.
            FailedPrecondition: it is another's.
            ResourceExhausted: none is free.
        """
        asked = parse_host(wanted, "ip_address") if wanted else None
        if asked is not None and (asked not in network.range or asked == network.router):
            raise InvalidArgument(
                f"ip_address {asked} is none of a plugin in network {network.name} ({network.subnet})"
            )
        with self._exclusive():
            taken = self._load(network.name)
            if asked is not None and (other := taken.get(str(asked), owner)) != owner:
                raise FailedPrecondition(f"ip_address {asked} of network {network.name} is {other}'s")
            host = asked or next((each for each in network.candidates() if str(each) not in taken), None)
            if host is None:
                raise ResourceExhausted(f"network {network.name} ({network.subnet}) has no free address")
            self._save(network.name, {**taken, str(host): owner})
        return host

    def free(self, names: Iterable[str], owner: str) -> None:
        """``owner`` has no address in the networks of these names. Right when it is done again."""
        with self._exclusive():
            for name in names:
                taken = self._load(name)
                kept = {host: other for host, other in taken.items() if other != owner}
                if kept != taken:
                    self._save(name, kept)

    def _load(self, name: str) -> dict[str, str]:
        try:
            taken: dict[str, str] = self._storage.load(f"{_FOLDER}/{name}")["addresses"]
        except NotFound:
            return {}
        return {host: owner for host, owner in taken.items() if self._alive(owner)}

    def _save(self, name: str, taken: Mapping[str, str]) -> None:
        if taken:
            self._storage.save(f"{_FOLDER}/{name}", {"addresses": dict(taken)})
        else:
            self._storage.delete(f"{_FOLDER}/{name}")

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked_directory(str(self._folder)):
                yield
        except OSError as error:
            raise from_os_error(error, f"the addresses in {self._folder} cannot be used") from error
