"""config.json of a plugin's container: what the image says, what go-plugin needs, what the configuration asks for.

Pure. What is the sandbox's (namespaces, the path of the cgroup, /etc/hosts and its like) is not in it.

Source: plugincontainer (container_runner.go); moby daemon/oci_linux.go (how an image becomes a process).
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from shim.errors import InvalidArgument
from shim.oci.spec import default_spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shim.image import ImageConfig, User
    from shim.plugin.container.config import Config

__all__ = ["SOCKET_DIR", "container_document", "environment"]

SOCKET_DIR = "/tmp/go-plugin-container"  # noqa: S108 - inside the container, where go-plugin has it
"""Where the plugin sees the folder of the sockets."""

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def container_document(
    config: Config,
    image: ImageConfig,
    user: User,
    plugin_env: Mapping[str, str],
    *,
    rootfs: str,
    socket_dir: str,
) -> dict[str, Any]:
    """The document. ``plugin_env`` is what go-plugin wants in the environment; ``socket_dir`` is on the host.

    Raises:
        InvalidArgument: there is no command.
    """
    document = default_spec(_command(config, image), rootfs, terminal=False)
    capabilities = _capabilities(config, user)
    gids = [*user.additional_gids, *([config.group_add] if config.group_add else [])]
    process = {
        **document["process"],
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": gids},
        "env": environment(config, image, plugin_env, socket_dir),
        "cwd": posixpath.join("/", image.working_dir),
        "capabilities": capabilities,
        # A program with file capabilities gets what it may have only where it may get any; without any there is nothing to get.
        "noNewPrivileges": not capabilities["bounding"],
    }
    # Those that a plugin has without a container: ours.
    del process["rlimits"]
    sockets = {
        "destination": SOCKET_DIR,
        "type": "bind",
        "source": socket_dir,
        "options": ["bind", "private", "rw"],
    }
    return {
        **document,
        "process": process,
        # Nobody else has this one.
        "root": {"path": rootfs, "readonly": False},
        "mounts": [*document["mounts"], sockets],
    }


def environment(
    config: Config, image: ImageConfig, plugin_env: Mapping[str, str], socket_dir: str
) -> list[str]:
    """The image's variables, those of go-plugin, the folder of the sockets as the plugin sees it, the configuration's.

    Of two with one name only the later is kept: programs take the first.
    """
    own = dict(plugin_env)
    # go-plugin before 1.5 makes its sockets where temporary files are made.
    if own.get("TMPDIR") == socket_dir:
        own["TMPDIR"] = SOCKET_DIR
    own["PLUGIN_UNIX_SOCKET_DIR"] = SOCKET_DIR
    return _merged([_PATH], image.env, [f"{name}={value}" for name, value in own.items()], config.env)


def _merged(*lists: Iterable[str]) -> list[str]:
    found: dict[str, str] = {}
    for texts in lists:
        for text in texts:
            name, assigned, value = text.partition("=")
            if name and assigned:
                found.pop(name, None)
                found[name] = value
    return [f"{name}={value}" for name, value in found.items()]


def _command(config: Config, image: ImageConfig) -> tuple[str, ...]:
    entrypoint = image.entrypoint if config.entrypoint is None else config.entrypoint
    args = config.args
    if args is None:
        # The image's are for its own entrypoint.
        args = () if config.entrypoint else image.cmd
    if not (command := (*entrypoint, *args)):
        raise InvalidArgument(
            f"image {config.reference} has neither entrypoint nor command: give one of them"
        )
    return command


def _capabilities(config: Config, user: User) -> dict[str, list[str]]:
    wanted = [
        *(["CAP_DAC_OVERRIDE"] if config.rootless else []),
        *(["CAP_IPC_LOCK"] if config.cap_ipc_lock else []),
    ]
    # As execve(2) has it: others than root get what their program's file says, within the bounds.
    own = wanted if user.uid == 0 else []
    return {"bounding": wanted, "effective": own, "permitted": own, "inheritable": [], "ambient": []}
