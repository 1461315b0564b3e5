"""The program of a shim process; ``start_shim`` runs it. Descriptor 3 is the listening socket, 2 the log."""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys

from shim import config, log
from shim.bootstrap.serve import serve

_LISTENER_FD = 3


def main() -> None:
    """Serve until the shim is not needed any more."""
    parser = argparse.ArgumentParser(prog="ocishim-shim", description=__doc__)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--id", required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--debug", action="store_true")
    options = parser.parse_args()
    settings = config.load()
    log.setup(sys.stderr.fileno(), debug=options.debug or settings.debug)
    listener = socket.socket(fileno=_LISTENER_FD)
    asyncio.run(serve(listener, options.socket, options.namespace, settings))


if __name__ == "__main__":
    main()
