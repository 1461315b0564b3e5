"""The program of a shim process; ``start_shim`` runs it. Descriptor 3 is the listening socket, 2 the log."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from shim import config, log
from shim.bootstrap.serve import serve
from shim.cgroup.hierarchy import detect
from shim.errors import ShimError

if TYPE_CHECKING:
    from shim.cgroup.hierarchy import Hierarchy

_LISTENER_FD = 3

_log = logging.getLogger(__name__)


def main() -> int:
    """Serve until the shim is not needed any more."""
    parser = argparse.ArgumentParser(prog="ocishim-shim", description=__doc__)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--id", required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--debug", action="store_true")
    options = parser.parse_args()
    listener = socket.socket(fileno=_LISTENER_FD)
    return run(listener, options.socket, options.namespace, debug=options.debug)


def run(
    listener: socket.socket, path: str, namespace: str, *, debug: bool, hierarchy: Hierarchy | None = None
) -> int:
    """The life of a shim process that answers on ``listener`` (ownership taken), bound to ``path``; the exit status.

    ``hierarchy`` has its containers' cgroups; None: the host's.
    """
    log.setup(sys.stderr.fileno(), debug=debug)
    try:
        settings = config.load()
    except ShimError as error:
        # Nobody will ever answer on this socket.
        with suppress(OSError):
            os.unlink(path)
        _log.critical("the shim cannot start: %s", error)
        return 1
    log.setup(sys.stderr.fileno(), debug=debug or settings.debug)
    asyncio.run(serve(listener, path, namespace, settings, hierarchy or detect()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
