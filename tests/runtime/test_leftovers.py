"""Removal of v1 groups, on a folder that looks like /sys/fs/cgroup."""

from __future__ import annotations

import asyncio
import json

import pytest

from shim.runtime import leftovers


@pytest.fixture
def hybrid(tmp_path, monkeypatch):
    root = tmp_path / "cgroup"
    for hierarchy in ("cpu", "memory", "unified"):
        (root / hierarchy / "parent" / "one").mkdir(parents=True)
    monkeypatch.setattr(leftovers, "_CGROUP", root)
    return root


def remove(tmp_path, path: object, container_id: str = "id") -> None:
    (tmp_path / "config.json").write_text(json.dumps({"linux": {"cgroupsPath": path}}))
    asyncio.run(leftovers.remove_v1_groups(leftovers.cgroups_path(str(tmp_path), container_id)))


def groups(root) -> set[str]:
    return {str(folder.relative_to(root)) for folder in root.glob("*/*/*")}


def test_the_groups_of_every_hierarchy_go_and_the_parents_stay(tmp_path, hybrid):
    remove(tmp_path, "/parent/one")
    assert groups(hybrid) == set()
    assert len(list(hybrid.glob("*/parent"))) == 3


def test_a_group_that_is_not_empty_stays(tmp_path, hybrid):
    (hybrid / "cpu" / "parent" / "one" / "inner").mkdir()
    remove(tmp_path, "/parent/one")
    assert groups(hybrid) == {"cpu/parent/one"}


@pytest.mark.parametrize("path", ["", None, 3, "/", "relative/one", "/parent/../parent/one", "/parent/other"])
def test_other_paths_touch_nothing(tmp_path, hybrid, path):
    remove(tmp_path, path)
    assert len(groups(hybrid)) == 3


def test_a_container_without_a_path_has_its_id_for_one(tmp_path, hybrid):
    (hybrid / "cpu" / "id").mkdir()
    remove(tmp_path, "", "id")
    assert not (hybrid / "cpu" / "id").exists()


def test_a_unified_hierarchy_is_the_shims(tmp_path, hybrid):
    (hybrid / "cgroup.procs").write_text("")
    remove(tmp_path, "/parent/one")
    assert len(groups(hybrid)) == 3


def test_a_bundle_without_config_is_no_error(tmp_path, hybrid):
    asyncio.run(leftovers.remove_v1_groups(leftovers.cgroups_path(str(tmp_path / "none"), "id")))
    assert len(groups(hybrid)) == 3
