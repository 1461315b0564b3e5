"""What is told of peers by their names alone."""

from __future__ import annotations

from harness.peers import of_containerd


def test_shims_of_containerd_are_told_by_name_oldest_first() -> None:
    names = ["ocishim", "containerd 2.10", "conmon", "containerd 2.9", "containerd 1.6", "runc alone"]
    assert of_containerd(names) == ["containerd 1.6", "containerd 2.9", "containerd 2.10"]
    assert of_containerd(["conmon"]) == []
