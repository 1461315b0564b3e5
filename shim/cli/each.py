"""One thing done with several containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shim.cli import output
from shim.errors import ShimError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["for_each"]


def for_each(ids: Iterable[str], action: Callable[[str], None]) -> None:
    """``action`` was done with each of ``ids``, also where it failed with an earlier one.

    Raises:
        ShimError: it failed with the last one that it failed with; the others are warned of.
    """
    failures = []
    for container_id in ids:
        try:
            action(container_id)
        except ShimError as error:
            failures.append(error)
    for failure in failures[:-1]:
        output.warn(str(failure))
    if failures:
        raise failures[-1]
