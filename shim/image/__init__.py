"""Images: a local store of OCI images, imported from layouts, archives and containerd, and unpacked."""

from __future__ import annotations

from shim.image.image import Image
from shim.image.limits import Limits, Progress
from shim.image.manifest import ImageConfig
from shim.image.reference import parse_digest, parse_name
from shim.image.store import Images
from shim.image.users import User, resolve_user

__all__ = [
    "Image",
    "ImageConfig",
    "Images",
    "Limits",
    "Progress",
    "User",
    "parse_digest",
    "parse_name",
    "resolve_user",
]
