"""What ``ctr events`` prints, from the moment it is known to listen."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from support import bed
from support.containerd import IMAGE, Containerd


class TaskEvents:
    """The task events of a daemon since ``watching`` began."""

    def __init__(self, watcher: subprocess.Popen[str]) -> None:
        assert watcher.stdout is not None
        self._pipe = watcher.stdout
        os.set_blocking(self._pipe.fileno(), False)
        self.lines = ""

    def seen(self, text: str) -> bool:
        """Whether ``text`` is in what has come up to now."""
        self.lines += self._pipe.read() or ""
        return text in self.lines

    def until(self, topic: str, container: str) -> list[tuple[str, dict[str, object]]]:
        """Topic and content of the container's events, in the order of arrival, once there is one of ``topic``."""
        bed.until(
            lambda: self.seen(topic) and topic in [name for name, _ in self.of(container)],
            f"no {topic} of {container} came:\n{self.lines}",
        )
        return self.of(container)

    def of(self, container: str) -> list[tuple[str, dict[str, object]]]:
        found = []
        for line in self.lines.splitlines(keepends=True):
            topic, brace, rest = line.partition("{")
            if "/tasks/" not in topic or not line.endswith("\n"):
                continue
            content = json.loads(brace + rest)
            if content.get("container_id") == container:
                found.append((topic.split()[-1].removeprefix("/tasks/"), content))
        return found


@contextmanager
def watching(daemon: Containerd) -> Iterator[TaskEvents]:
    """Every event from now on is seen."""
    with subprocess.Popen(daemon.command("events"), stdout=subprocess.PIPE, text=True) as watcher:
        events = TaskEvents(watcher)
        # The client says nothing when it has subscribed: containers are made until it sees one.
        bed.until(
            lambda: (
                daemon.ctr("container", "create", IMAGE, "probe")
                and daemon.ctr("container", "rm", "probe")
                and events.seen("probe")
            ),
            "no events",
        )
        try:
            yield events
        finally:
            watcher.kill()
