"""The root file system of an image, unpacked by umoci, or by ourselves where that is not installed and we are root.

umoci resolves every name in the new root, as a process there would, and compares every digest. It is given a manifest of our making,
of OCI's types: it does not know Docker's, which images from containerd and Docker have. Either works beside the
directory that is wanted, which appears when all is in it.

Source: umoci-raw-unpack(1); ``changeset``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition, ResourceExhausted
from shim.image import tools
from shim.image.layout import blob_path

if TYPE_CHECKING:
    from typing import Any

    from shim.image.image import Blob, Image

__all__ = ["check_room", "unpack"]

_CONFIG = "application/vnd.oci.image.config.v1+json"


def check_room(image: Image, target: Path) -> None:
    """``target`` may become what ``image`` holds.

    Raises:
        FailedPrecondition: there is something in it, or it is no directory.
        ResourceExhausted: there is not room for that much.
        OSError: nobody can tell.
    """
    if (
        target.is_symlink()
        or (target.exists() and not target.is_dir())
        or (target.is_dir() and any(target.iterdir()))
    ):
        raise FailedPrecondition(f"{target} is no empty directory")
    room = os.statvfs(target.parent)
    if room.f_bavail * room.f_frsize < image.unpacked_size or (
        room.f_files and room.f_favail < image.entries
    ):
        raise ResourceExhausted(
            f"{target.parent} has no room for {image.entries} files with {image.unpacked_size} bytes"
        )


def unpack(image: Image, layout: Path, target: Path) -> None:
    """``target`` is the root file system of ``image``, whose blobs are in ``layout``.

    Raises:
        NotFound: umoci is not installed, and we are not root.
        FailedPrecondition: it has failed.
        OSError: the directory cannot be made.
    """
    made = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", dir=target.parent))
    try:
        root = made / "rootfs"
        if os.geteuid() == 0 and shutil.which("umoci") is None:
            _apply(image, layout, root)
        else:
            _unpack(image, layout, root)
        root.rename(target)
    finally:
        _remove(made)


def _unpack(image: Image, layout: Path, root: Path) -> None:
    umoci = tools.need("umoci", "umoci", "unpacking an image without being root")
    _describe(image, layout)
    flags = [] if os.geteuid() == 0 else ["--rootless"]
    # A relative name: a colon in a path would end it for umoci.
    argv = [umoci, "raw", "unpack", *flags, "--image", ".:image", str(root)]
    tools.run(argv, layout, f"umoci cannot unpack {image.id}")


def _apply(image: Image, layout: Path, root: Path) -> None:
    root.mkdir(mode=0o755)
    root.chmod(0o755)  # whatever the umask
    blobs = [blob_path(layout, layer.digest) for layer in image.layers]
    pairs = zip(blobs, image.config.diff_ids, strict=True)
    # -P: the layout is no place for modules.
    argv = [sys.executable, "-P", "-m", "shim.image.changeset", str(root), *(f"{b}={d}" for b, d in pairs)]
    tools.run(argv, layout, f"cannot unpack {image.id}")


def _remove(directory: Path) -> None:
    # A user's own directories may forbid to be emptied; root's do not.
    if os.geteuid():
        for folder, _, _ in os.walk(directory):
            os.chmod(folder, 0o700)
    shutil.rmtree(directory)


def _describe(image: Image, layout: Path) -> None:
    """``layout`` is one of the image alone, called ``image``."""
    config = {"mediaType": _CONFIG, "digest": image.id, "size": image.config_size}
    layers = [_descriptor(layer) for layer in image.layers]
    manifest = json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    blob_path(layout, digest).write_bytes(manifest)
    entry = {
        "mediaType": image.manifest.media_type,
        "digest": digest,
        "size": len(manifest),
        "annotations": {"org.opencontainers.image.ref.name": "image"},
    }
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _descriptor(blob: Blob) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}
