"""Kinds of file systems."""

from __future__ import annotations

import pytest

from shim.linux.mounts import mount, umount2
from shim.linux.statfs import in_memory


@pytest.mark.root
@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
def test_in_memory(tmp_path, kind):
    mount("none", str(tmp_path), kind, 0)
    try:
        assert in_memory(tmp_path)
        (tmp_path / "below").mkdir()
        assert in_memory(bytes(tmp_path / "below"))
    finally:
        umount2(str(tmp_path), 0)


def test_not_in_memory():
    assert not in_memory("/proc")
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        in_memory("/nowhere")
