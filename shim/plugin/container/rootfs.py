"""The root file system of a plugin: an overlay of its own over an unpacked image, which all plugins of that image share.

    <data root>/plugin-images/<boot>/<image id>/rootfs      nobody writes into it once it has that name
    <data root>/plugin-containers/<id>/rootfs upper work    the overlay, what the plugin writes, the kernel's own

An image is unpacked once a boot: it is not synced, and of what a crash leaves nobody can say that it is whole. It is kept
while a plugin uses it or the store has it. Where there can be no overlay (for users, or on an overlay) a plugin gets a copy.

Source: Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import from_os_error
from shim.linux.locks import locked_directory
from shim.linux.mounts import Mount, mount_all

if TYPE_CHECKING:
    from shim.image import Image, Images
    from shim.plugin.container.home import Home

__all__ = ["drop_unused", "provide"]

_FOLDER = "plugin-images"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
# What means something in the options of an overlay.
_AWKWARD = re.compile(r"[:,\\]")

_log = logging.getLogger(__name__)


def provide(images: Images, image: Image, home: Home, data_root: str) -> None:
    """``home.rootfs`` is the image's, and the plugin's alone. Blocks as long as unpacking takes.

    Raises:
        ShimError: as ``Images.unpack``; what is in ``home`` is the caller's to remove.
    """
    if os.geteuid() != 0 or _AWKWARD.search(str(home.path)):
        images.unpack(image, home.rootfs)
        return
    lower = _unpacked(images, image, data_root)
    try:
        _mount(lower, home)
    except OSError as error:
        _log.info("plugin container %s has a copy of its image, and no overlay: %s", home.id, error)
        for name in ("rootfs", "upper", "work"):
            shutil.rmtree(home.path / name, ignore_errors=True)
        images.unpack(image, home.rootfs)


def _unpacked(images: Images, image: Image, data_root: str) -> Path:
    place = _bases(data_root) / image.id.rpartition(":")[2]
    rootfs = place / "rootfs"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked_directory(str(place)):
            if not rootfs.is_dir():
                partial = place / "partial"
                shutil.rmtree(partial, ignore_errors=True)
                images.unpack(image, partial)
                partial.rename(rootfs)
    except OSError as error:
        raise from_os_error(error, f"image {image.id} cannot be unpacked") from error
    return rootfs


def _mount(lower: Path, home: Home) -> None:
    home.rootfs.mkdir()
    (home.path / "work").mkdir()
    upper = home.path / "upper"
    upper.mkdir()
    # The root of an overlay has its upper directory's.
    about = lower.stat()
    os.chown(upper, about.st_uid, about.st_gid)
    upper.chmod(stat.S_IMODE(about.st_mode))
    options = (f"lowerdir={lower}", f"upperdir={upper}", f"workdir={home.path / 'work'}")
    mount_all([Mount("overlay", "overlay", "", options)], str(home.rootfs))


def drop_unused(data_root: str, keep: set[str]) -> None:
    """Of unpacked images only those are left whose ids are in ``keep``. The caller sees to it that nobody begins to use one.

    Raises:
        ShimError: they cannot be listed.
    """
    bases = _bases(data_root)
    kept = {image_id.rpartition(":")[2] for image_id in keep}
    try:
        unused = [bases / name for name in _listed(bases) if name not in kept]
        earlier = [bases.parent / name for name in _listed(bases.parent) if name != bases.name]
    except OSError as error:
        raise from_os_error(error, f"unpacked images in {bases} cannot be listed") from error
    for folder in (*unused, *earlier):
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            _log.warning("unpacked image %s cannot be removed now", folder)


def _listed(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _bases(data_root: str) -> Path:
    return Path(data_root, _FOLDER, _BOOT.read_text(encoding="ascii").strip())
