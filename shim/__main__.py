"""``python -m shim`` is the command line ``ocishim``."""

from shim.cli import main

main()
