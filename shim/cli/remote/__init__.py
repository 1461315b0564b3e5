"""The verbs that ``ocishim --host URL`` has: those that the daemon's gRPC API has calls for, one file a verb.

A path that is given to one of them is a path on the daemon's host. Nothing of the configuration here has any effect there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MODULES"]

MODULES: Final[Mapping[str, str]] = {
    **{
        name: f"shim.cli.remote.{name}"
        for name in (
            "run",
            "exec",
            "kill",
            "stop",
            "pause",
            "resume",
            "delete",
            "list",
            "state",
            "stats",
            "wait",
        )
    },
    "checkpoint": "shim.cli.verbs.checkpoint",
    "events": "shim.cli.verbs.events",
}
"""Where ``command`` of each verb is."""
