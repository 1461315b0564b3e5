"""Plugins in containers of the sample root file system: images in a store of the test's own, and what is left of them.

A folder's conftest.py takes part with ``from support.plugin_containers import ...`` of the fixtures.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import bed, go_plugin
from support.oci_images import make_image
from support.python_image import make_python_image
from support.shims import CgroupParent

from shim.config import Config as Settings
from shim.image import Images
from shim.plugin import Config, PluginContainer
from shim.sandbox import clear_sandbox, list_sandboxes

__all__ = [
    "FOREVER",
    "GO_IMAGE",
    "IMAGE",
    "PYTHON_IMAGE",
    "MakePlugin",
    "go_image",
    "parent",
    "plugin",
    "python_image",
    "settings",
    "socket_dir",
    "store",
]

IMAGE = "ocishim.test/plugin"
GO_IMAGE = "ocishim.test/go-plugin"
PYTHON_IMAGE = "ocishim.test/python-plugin"
FOREVER = "trap 'exit 5' TERM; while :; do sleep 0.01; done"
"""A line of shell that runs until it is asked to end: as the first process of a container it has to want to."""

MakePlugin = Callable[..., PluginContainer]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the image IMAGE:1, which runs a shell; one for all tests."""
    folder = tmp_path_factory.mktemp("images")
    etc = {"etc/passwd": b"root:x:0:0::/:/bin/sh\nvault:x:100:1000::/:\n", "etc/group": b"audit:x:50:vault\n"}
    files = {"bin": bed.rootfs() / "bin", **etc}
    layout = make_image(folder / "layout", files, {"Entrypoint": ["/bin/sh", "-c"], "Env": ["FROM=image"]})
    data_root = folder / "data"
    (data_root / "plugin-images").mkdir(parents=True)
    Images(data_root).import_(layout, f"{IMAGE}:1")
    return data_root


@pytest.fixture(scope="session")
def go_image(store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of the image GO_IMAGE:latest; GO_IMAGE:user is the same for another user."""
    bed.need(
        go_plugin.is_there(),
        "Go and go-plugin are not installed: apt-get install golang-go golang-github-hashicorp-go-plugin-dev",
    )
    files = {"plugin": go_plugin.built(), "etc/passwd": b"vault:x:100:1000::/:\n"}
    folder = tmp_path_factory.mktemp("go")
    for tag, user in (("user", "vault"), ("latest", "")):
        layout = make_image(folder / tag, files, {"Entrypoint": ["/plugin"], "User": user})
        image = Images(store).import_(layout, f"{GO_IMAGE}:{tag}")
    return image.id


@pytest.fixture(scope="session")
def python_image(store: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of the image PYTHON_IMAGE:latest, the plugin in Python, which runs as another user."""
    files = {"etc/passwd": b"vault:x:100:1000::/:\n", "tmp": tmp_path_factory.mktemp("tmp")}
    files["tmp"].chmod(0o1777)
    folder = tmp_path_factory.mktemp("python") / "layout"
    layout = make_python_image(folder, "support.python_plugin", {"User": "vault"}, files)
    return Images(store).import_(layout, f"{PYTHON_IMAGE}:latest").id


@pytest.fixture
def settings(store: Path, state_root: Path, tmp_path: Path) -> Iterator[Settings]:
    """Those of the test; afterwards there is no plugin, and no directory of one."""
    data_root = tmp_path / "data"
    data_root.mkdir()
    for shared in ("images", "plugin-images"):
        (data_root / shared).symlink_to(store / shared)
    yield Settings(state_root=str(state_root), data_root=str(data_root))
    left = asyncio.run(_clear(str(state_root)))
    assert left == []
    homes = data_root / "plugin-containers"
    assert not homes.exists() or os.listdir(homes) == []


async def _clear(state_root: str) -> list[str]:
    left = [status.id for status in await list_sandboxes(state_root=state_root)]
    for name in left:
        await clear_sandbox(name, state_root=state_root)
    return left


@pytest.fixture
def parent() -> Iterator[str]:
    """The cgroup above those of the plugins, of which there are none at the end."""
    group = CgroupParent()
    yield group.path
    left = group.groups()
    group.remove()
    assert left == set()


@pytest.fixture
def socket_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "sockets"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def plugin(settings: Settings, parent: str, socket_dir: Path, monkeypatch: pytest.MonkeyPatch) -> MakePlugin:
    """Makes plugins that run a line of shell; one that does not end when it is asked to is killed after a second."""
    monkeypatch.setattr("shim.plugin.container.attached._STOP_S", 1.0)

    def make(
        script: str = "exec sleep inf", *, env: dict[str, str] | None = None, **members
    ) -> PluginContainer:
        given = {"image": IMAGE, "tag": "1", "args": [script], "cgroup_parent": parent, **members}
        return PluginContainer(Config(**given), env or {}, str(socket_dir), settings)

    return make
