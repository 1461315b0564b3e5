"""The command line ``ocishim``: one module per verb, a client of shim processes over ttrpc.

It owns no container. What it owns is the directory of each container it made (``containers.py``) and, while a
foreground verb runs, its ends of that container's FIFOs and the terminal it was started on.
"""

from shim.cli.app import main

__all__ = ["main"]
