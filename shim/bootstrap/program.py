"""``ocishim-containerd``: what the launcher executes where no template serves, and to have one.

A module of its own, since a template listens before it imports what takes long.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """The template if that is the first word, else what containerd asks for; returns the exit status."""
    if sys.argv[1:2] == ["template"]:
        from shim.bootstrap.template import main as template  # noqa: PLC0415

        return template(sys.argv[2])
    from shim.bootstrap.containerd import main as containerd  # noqa: PLC0415

    return containerd()


if __name__ == "__main__":
    sys.exit(main())
