"""What is kept of a plugin's container besides its sandbox: its private root file system, and who started it.

    <data root>/plugin-containers/<id>/     0700; exists for as long as anything of the plugin does
        record.json                         the process that started it, and what has to be given back at its end
        rootfs/ config.json                 its bundle

Below the data root, not beside the sandbox's record: an image is too much for a tmpfs. One that is being removed has a name
that begins with a dot, and is of no plugin any more.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from shim.errors import AlreadyExists, DataLoss, NotFound, ShimError, from_os_error
from shim.linux.locks import locked_directory
from shim.process.holder import start_time
from shim.store import records

__all__ = ["Home", "Record", "homes"]

_FOLDER = "plugin-containers"
_RECORD = "record.json"


@dataclass(frozen=True, slots=True)
class Record:
    """One plugin."""

    image: str
    state_root: str
    """Where its sandbox is; a data root may have plugins of several."""
    owner_pid: int
    owner_started: int
    """In clock ticks since the boot: a later process of the same pid is not the owner."""
    cgroup_parent: str
    networks: tuple[str, ...]
    debug: bool

    @property
    def has_owner(self) -> bool:
        """Whether the process that started it still runs."""
        return self.owner_started != 0 and start_time(self.owner_pid) == self.owner_started


class Home:
    """The directory of the plugin ``plugin_id``, whether it exists or not. All calls block as disks do."""

    def __init__(self, data_root: str, plugin_id: str) -> None:
        self.id = plugin_id
        self.path = Path(data_root, _FOLDER, plugin_id)

    @property
    def rootfs(self) -> Path:
        """Its root file system."""
        return self.path / "rootfs"

    def exists(self) -> bool:
        """Whether anything of the plugin does."""
        return self.path.is_dir()

    def claim(
        self, image: str, state_root: str, cgroup_parent: str, networks: tuple[str, ...], *, debug: bool
    ) -> None:
        """It exists, with this process as its owner.

        Raises:
            AlreadyExists: another plugin has the id.
            ShimError: it cannot be made; nothing is left.
        """
        pid = os.getpid()
        record = Record(image, state_root, pid, start_time(pid), cgroup_parent, networks, debug)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # So that nobody finds it without its record, and takes it for what a killed process left.
            with locked_directory(str(self.path.parent)):
                self.path.mkdir(mode=0o700)
                try:
                    records.save(self.path / _RECORD, asdict(record), synced=False)
                except BaseException:
                    shutil.rmtree(self.path, ignore_errors=True)
                    raise
        except FileExistsError:
            raise AlreadyExists(f"plugin container {self.id} exists already") from None
        except OSError as error:
            raise from_os_error(error, f"plugin container {self.id} cannot be made") from error

    def load(self) -> Record:
        """The record.

        Raises:
            NotFound: there is none.
            DataLoss: it is broken.
        """
        try:
            found = records.load(self.path / _RECORD)
        except NotFound:
            raise NotFound(f"plugin container {self.id} does not exist") from None
        try:
            return Record(
                image=str(found["image"]),
                state_root=str(found["state_root"]),
                owner_pid=int(found["owner_pid"]),
                owner_started=int(found["owner_started"]),
                cgroup_parent=str(found["cgroup_parent"]),
                networks=tuple(map(str, found["networks"])),
                debug=bool(found["debug"]),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise DataLoss(f"the record of plugin container {self.id} is broken: {error!r}") from error

    def remove(self) -> None:
        """It is gone. Right when it is done again, and by two at once.

        Raises:
            ShimError: something stays; it can be tried again.
        """
        leaving = self.path.with_name(f".{self.id}")
        try:
            with suppress(FileNotFoundError):
                self.path.rename(leaving)
        except OSError as error:
            raise from_os_error(error, f"plugin container {self.id} cannot be removed") from error
        _remove_tree(leaving)


def _remove_tree(path: Path) -> None:
    # Errors of one who removes the same at the same time are none.
    shutil.rmtree(path, ignore_errors=True)
    if not path.exists():
        return
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, f"{path} cannot be removed") from error


def homes(data_root: str) -> list[tuple[Home, Record | None]]:
    """All there are, by id, with their records; None where that is broken. What was half removed is gone.

    Raises:
        ShimError: they cannot be read.
    """
    parent = Path(data_root, _FOLDER)
    found: list[tuple[Home, Record | None]] = []
    try:
        with locked_directory(str(parent)):
            for name in sorted(os.listdir(parent)):
                if not name.startswith("."):
                    home = Home(data_root, name)
                    with suppress(NotFound):
                        found.append((home, _record(home)))
            leaving = [name for name in os.listdir(parent) if name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os_error(error, f"plugin containers in {parent} cannot be listed") from error
    for name in leaving:
        _remove_tree(parent / name)
    return found


def _record(home: Home) -> Record | None:
    try:
        return home.load()
    except NotFound:
        raise
    except ShimError:
        return None
