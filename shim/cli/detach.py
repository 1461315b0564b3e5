"""The keys that leave a container alone: ctrl-p ctrl-q, unless others are asked for.

What was typed of the sequence is held back until the next key decides; if that is another one, all of it goes to the
container.
"""

from __future__ import annotations

__all__ = ["DEFAULT", "DetachKeys"]

DEFAULT = "ctrl-p,ctrl-q"


class DetachKeys:
    """Looks for one sequence in what is typed."""

    def __init__(self, sequence: bytes) -> None:
        if not sequence:
            raise ValueError("a sequence has at least one key")
        self.seen = False
        self._sequence = sequence
        self._matched = 0

    def feed(self, data: bytes) -> bytes:
        """What of ``data``, and of what was held back, the container is to have. Sets ``seen``; what follows is dropped."""
        typed = self._sequence[: self._matched] + data
        at = typed.find(self._sequence)
        if at >= 0:
            self.seen, self._matched = True, 0
            return typed[:at]
        self._matched = next(
            n for n in range(len(self._sequence) - 1, -1, -1) if typed.endswith(self._sequence[:n])
        )
        return typed[: len(typed) - self._matched]
