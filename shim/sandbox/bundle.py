"""The bundle of one container of a sandbox, which holds all that is kept of it.

config.json       what the runtime was given
fifos/            the streams of its init
exec/<token>/     those of a process that was run in it later
devices.json      what was plugged in: see ``devices``
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from shim.oci.process import derive, parse_user
from shim.oci.spec import to_json
from shim.sandbox.streams import Fifos

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Bundle"]


class Bundle:
    """The directory ``path``, whether it exists or not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether there is such a container."""
        return self.path.is_dir()

    def make(self, document: dict[str, Any]) -> None:
        """It exists, which it must not yet, with ``document`` as its config.json."""
        self.path.mkdir(mode=0o700, parents=True)
        try:
            (self.path / "config.json").write_bytes(to_json(document))
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Nothing is left of it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def process(
        self, args: Sequence[str], env: Sequence[str], cwd: str, user: str, *, terminal: bool
    ) -> dict[str, Any]:
        """The Process that runs ``args`` as the container's init is run in everything else.

        Raises:
            InvalidArgument: it can be none.
        """
        init = json.loads((self.path / "config.json").read_bytes())["process"]
        return derive(
            init,
            args,
            env=env,
            cwd=cwd or None,
            user=parse_user(user) if user else None,
            terminal=terminal,
        )

    def fifos(self, exec_id: str = "") -> Fifos:
        """The streams of its init, or of what was run in it under that id."""
        return Fifos(self.path / "exec" / exec_id if exec_id else self.path / "fifos")
