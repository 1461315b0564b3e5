"""The command line ``ocishim``: one module per verb, a client of shim processes over ttrpc.

It owns no container. What it owns, while a foreground verb runs, is its ends of that container's FIFOs and the terminal
it was started on.
"""

from shim.cli.app import main

__all__ = ["main"]
