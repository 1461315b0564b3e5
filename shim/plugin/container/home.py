"""What is kept of a plugin's container besides its sandbox: its private root file system, and who started it.

    <data root>/plugin-containers/<id>/     0700; exists for as long as anything of the plugin does
        record.json                         the process that started it, and what has to be given back at its end
        rootfs/ upper/ work/ config.json    its bundle, whose rootfs is an overlay or a copy

Below the data root, not beside the sandbox's record: an image is too much for a tmpfs. One that is being removed has a name
that begins with a dot, and is of no plugin any more.
"""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import AlreadyExists, DataLoss, NotFound, ShimError, from_os_error
from shim.linux.locks import locked_directory
from shim.linux.mounts import unmount_tree
from shim.process.holder import start_time
from shim.store import records

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Home", "Record", "homes", "locked_homes"]

_log = logging.getLogger(__name__)

_FOLDER = "plugin-containers"
_RECORD = "record.json"


@dataclass(frozen=True, slots=True)
class Record:
    """One plugin."""

    image: str
    image_id: str
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
        self,
        image: str,
        image_id: str,
        state_root: str,
        cgroup_parent: str = "",
        networks: tuple[str, ...] = (),
        *,
        debug: bool = False,
    ) -> None:
        """It exists, with this process as its owner.

        Raises:
            AlreadyExists: another plugin has the id.
            ShimError: it cannot be made; nothing is left.
        """
        pid = os.getpid()
        record = Record(image, image_id, state_root, pid, start_time(pid), cgroup_parent, networks, debug)
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
                image_id=str(found["image_id"]),
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
            if in_use := unmount_tree(str(self.rootfs)):
                _log.warning("the root of plugin container %s was still in use: %s", self.id, in_use)
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


@contextmanager
def locked_homes(data_root: str) -> Iterator[list[tuple[Home, Record | None]]]:
    """All there are, by id, with their records, None where that is broken. No other is claimed while the body runs.

    Raises:
        ShimError: they cannot be read.
    """
    parent = Path(data_root, _FOLDER)
    with ExitStack() as stack:
        found: list[tuple[Home, Record | None]] = []
        try:
            stack.enter_context(locked_directory(str(parent)))
            for name in sorted(os.listdir(parent)):
                if not name.startswith("."):
                    home = Home(data_root, name)
                    with suppress(NotFound):
                        found.append((home, _record(home)))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise from_os_error(error, f"plugin containers in {parent} cannot be listed") from error
        yield found


def homes(data_root: str) -> list[tuple[Home, Record | None]]:
    """As ``locked_homes`` gives them. What was half removed is gone.

    Raises:
        ShimError: they cannot be read, or something of one cannot be removed.
    """
    with locked_homes(data_root) as found:
        pass
    with suppress(FileNotFoundError):
        for leaving in Path(data_root, _FOLDER).glob(".*"):
            _remove_tree(leaving)
    return found


def _record(home: Home) -> Record | None:
    try:
        return home.load()
    except NotFound:
        raise
    except ShimError:
        return None
