"""A store of a test's own, and what there is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shim.image import Images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def images(root: Path) -> Images:
    return Images(root)


@pytest.fixture
def files(root: Path):
    """The files in the store, relative to it."""

    def found() -> list[str]:
        return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())

    return found


@pytest.fixture
def is_empty(root: Path):
    """Whether the store has nothing, neither an image nor a directory that somebody works in."""

    def look() -> bool:
        return not [p for p in root.rglob("*") if not p.is_dir() or p.name.startswith(".")]

    return look
