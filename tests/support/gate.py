"""A runtime that is runc, and can be held up at any of its commands."""

from __future__ import annotations

from pathlib import Path

from support.client_streams import until

_SCRIPT = """#!/bin/sh
for word; do
    if [ -e "{folder}/$word" ]; then
        touch "{folder}/at-$word"
        while [ -e "{folder}/$word" ]; do sleep 0.05; done
    fi
done
exec runc "$@"
"""


class Gate:
    """In ``folder``, where nothing else may be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = folder / "runc-gated"
        self.runtime.write_text(_SCRIPT.format(folder=folder))
        self.runtime.chmod(0o755)

    def close(self, command: str) -> None:
        (self.folder / command).touch()

    def wait(self, command: str) -> None:
        """A runtime waits at it."""
        until((self.folder / f"at-{command}").exists, f"no runtime at {command}")

    def open(self) -> None:
        for file in self.folder.iterdir():
            if file != self.runtime:
                file.unlink()
