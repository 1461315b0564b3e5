"""Where the group of a container will be."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from shim.config import Config
from shim.errors import InvalidArgument
from shim.task.control_group import ControlGroup


def planned(mode, *, parent="", path="", systemd=False):
    shop = SimpleNamespace(hierarchy=SimpleNamespace(mode=mode))
    config = Config(state_root="/run/ocishim", cgroup_parent=parent, systemd_cgroup=systemd)
    return ControlGroup.plan(shop, config, SimpleNamespace(cgroups_path=path), "c1").path


@pytest.fixture(params=["unified", "hybrid", "legacy"])
def mode(request):
    return request.param


def test_of_root(mode, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert planned(mode) == "/ocishim/c1"
    assert planned(mode, path="/theirs/x") == "/theirs/x"
    assert planned(mode, parent="/mine/", path="/theirs/x") == "/mine/c1"
    assert planned(mode, path="a.slice:b:c", systemd=True) == "a.slice:b:c"
    with pytest.raises(InvalidArgument):
        planned(mode, path="/../x")


def test_of_a_user(mode, monkeypatch):
    """Under v1 few users may make groups: where nothing asks for one, the runtime goes on without."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert planned(mode) == ("/ocishim/c1" if mode == "unified" else "")
    assert planned(mode, path="/theirs/x") == "/theirs/x"
    assert planned(mode, parent="/mine") == "/mine/c1"
