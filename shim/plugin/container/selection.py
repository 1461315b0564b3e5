"""Which of the images in the store a configuration means; never one of a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition
from shim.image import parse_name

if TYPE_CHECKING:
    from shim.image import Image, Images
    from shim.plugin.container.config import Config

__all__ = ["find_image"]


def find_image(images: Images, config: Config) -> Image:
    """The image. With a digest only one that also has the name.

    Raises:
        NotFound: there is no image of that name.
        InvalidArgument: that is no name of an image.
        FailedPrecondition: none of that name has the digest; nothing else has been done.
    """
    if not config.digest:
        return images.get(config.reference)
    # Not get(), which wants a tag: here any does where none is asked for.
    for image in images.list():
        if config.digest in image.digests and _is_named(image, config):
            return image
    raise FailedPrecondition(
        f"could not find any locally available images named {config.reference} that match with the provided"
        f" SHA256 hash {config.sha256}: SHA256 mismatch"
    )


def _is_named(image: Image, config: Config) -> bool:
    wanted = parse_name(config.reference)
    if config.tag:
        return wanted in image.names
    return any(name.rpartition(":")[0] == wanted.rpartition(":")[0] for name in image.names)
