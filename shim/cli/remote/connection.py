"""A connection to the daemon that the options before the verb name: a remote one, or the one of our state directory."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shim.errors import InvalidArgument, NotFound, Unavailable, Unimplemented

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shim.cli.settings import Settings
    from shim.client import BlockingClient, Container

__all__ = ["connected", "container_of"]


@contextmanager
def connected(settings: Settings) -> Iterator[BlockingClient]:
    """A client, which is closed afterwards.

    Raises:
        InvalidArgument: the options cannot be right.
        Unimplemented: what it needs is not installed.
    """
    try:
        from shim.client import BlockingClient, TlsFiles  # noqa: PLC0415 - an extra, and start-up time
    except ImportError as error:
        raise Unimplemented(f"calling a daemon needs {error.name}: pip install 'ocishim[daemon]'") from error
    files = (settings.tls_ca, settings.tls_cert, settings.tls_key)
    if any(files) and not all(files):
        raise InvalidArgument("--tls-ca, --tls-cert and --tls-key go together")
    tls = TlsFiles(*(str(file) for file in files)) if all(files) else None
    # grpc's own messages about lost connections are of no use beside ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    url = _local(settings) if settings.host is None else settings.host
    with BlockingClient(url, tls=tls) as client:
        try:
            yield client
        except Unavailable as error:
            if settings.host is not None:
                raise
            raise Unavailable(f"{error}; start one with: ocishim daemon") from error


def _local(settings: Settings) -> str:
    from shim.config import section  # noqa: PLC0415 - start-up time

    path = section("daemon", settings.config_path).get("grpc_socket")
    return f"unix://{path or f'{settings.config.state_root}/grpc.sock'}"


def container_of(client: BlockingClient, container_id: str) -> Container:
    """What the daemon says of a container.

    Raises:
        NotFound: there is none of that id.
    """
    for container in client.state().containers:
        if container.id == container_id:
            found: Container = container
            return found
    raise NotFound(f"container {container_id} does not exist there; see what does: ocishim --host … list")
