"""The JSON of an image, which somebody else wrote: index, manifest, configuration. Pure: bytes in, values out.

Both spellings are understood, OCI's and that of Docker's schema 2, which differ in the names of their types. Whatever is used is
checked for its type; what is not used may be anything.

Source: image-spec (descriptor.md, image-index.md, manifest.md, config.md); Docker's image manifest, schema 2.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shim.errors import InvalidArgument
from shim.image.reference import parse_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "Descriptor",
    "ImageConfig",
    "Manifest",
    "choose",
    "parse_config",
    "parse_index",
    "parse_manifest",
]

INDEX_TYPES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
MANIFEST_TYPES = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
}
_CONFIG_TYPES = {
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
}
# What is compressed is seen from the bytes: skopeo calls Docker's layers gzip whether they are or not.
_LAYER_TYPES = {
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
_MOST_LAYERS = 512
# NUL, and half of a character, which JSON has an escape for: neither can be handed on to any program.
_IMPOSSIBLE = re.compile(r"[\0\ud800-\udfff]")

# What Go calls the machines that uname(2) names so; the others are called the same.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
    "loongarch64": "loong64",
}
_VARIANTS = {"arm64": ("", "v8"), "arm": ("v7", "", "v6", "v5"), "amd64": ("", "v1")}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What one blob says of another. ``names`` are those that its annotations give it; ``platform`` is (os, architecture, variant)."""

    media_type: str
    digest: str
    size: int
    names: tuple[str, ...] = ()
    platform: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an image consists of."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """How an image wants to be run. What it does not say is empty."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    architecture: str = ""
    os: str = ""
    created: str = ""
    diff_ids: tuple[str, ...] = ()


def _wrong(what: str, place: str) -> InvalidArgument:
    return InvalidArgument(f"{what}: {place}")


def _object(body: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _wrong(what, "it is no JSON object")
    if value.get("schemaVersion", 2) != 2:
        raise _wrong(what, f"schemaVersion is {value['schemaVersion']!r}, and only 2 is known")
    return value


def _text(table: Mapping[str, Any], key: str, what: str) -> str:
    value = table.get(key) or ""
    if not isinstance(value, str):
        raise _wrong(what, f"{key} is no text")
    if _IMPOSSIBLE.search(value):
        raise _wrong(what, f"{key} has what no text has in it")
    return value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not _IMPOSSIBLE.search(value)


def _texts(table: Mapping[str, Any], key: str, what: str) -> tuple[str, ...]:
    value = table.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(map(_is_text, value)):
        raise _wrong(what, f"{key} is no list of texts")
    return tuple(value)


def _table(table: Mapping[str, Any], key: str, what: str) -> dict[str, Any]:
    value = table.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(what, f"{key} is no object")
    return value


def _descriptor(value: object, what: str) -> Descriptor:
    if not isinstance(value, dict):
        raise _wrong(what, "a descriptor is no object")
    size, digest = value.get("size"), value.get("digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise _wrong(what, f"the size of a descriptor is {size!r}")
    if not isinstance(digest, str) or not digest.startswith("sha256:"):
        raise _wrong(what, f"the digest of a descriptor is {digest!r}, and only sha256 is known")
    notes, on = _table(value, "annotations", what), _table(value, "platform", what)
    keys = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
    return Descriptor(
        _text(value, "mediaType", what),
        parse_digest(digest),
        size,
        tuple(name for key in keys if (name := _text(notes, key, what))),
        (_text(on, "os", what), _text(on, "architecture", what), _text(on, "variant", what)) if on else None,
    )


def parse_index(body: bytes, what: str) -> tuple[Descriptor, ...]:
    """The images that an index lists; ``what`` names it in errors.

    Raises:
        InvalidArgument: it is no index.
    """
    entries = _object(body, what).get("manifests")
    if not isinstance(entries, list):
        raise _wrong(what, "manifests is no list")
    return tuple(_descriptor(entry, what) for entry in entries)


def parse_manifest(body: bytes, what: str) -> Manifest:
    """What a manifest lists.

    Raises:
        InvalidArgument: it is no manifest, or one of something else than a container image.
    """
    table = _object(body, what)
    config = _descriptor(table.get("config"), what)
    if config.media_type not in _CONFIG_TYPES:
        raise _wrong(what, f"it is of {config.media_type!r}, and no container image")
    listed = table.get("layers")
    if not isinstance(listed, list) or len(listed) > _MOST_LAYERS:
        raise _wrong(what, f"layers is no list of at most {_MOST_LAYERS}")
    layers = [_layer(_descriptor(each, what), number, what) for number, each in enumerate(listed, 1)]
    return Manifest(config, tuple(layers))


def _layer(blob: Descriptor, number: int, what: str) -> Descriptor:
    if blob.media_type not in _LAYER_TYPES:
        hint = (
            "; skopeo copy --dest-compress-format gzip makes another of it"
            if "zstd" in blob.media_type
            else ""
        )
        raise _wrong(
            what, f"layer {number} is of {blob.media_type!r}, and only tar and tar+gzip are known{hint}"
        )
    return blob


def parse_config(body: bytes, what: str) -> ImageConfig:
    """The configuration of an image.

    Raises:
        InvalidArgument: it is none, or none for this machine.
    """
    table = _object(body, what)
    run, root = _table(table, "config", what), _table(table, "rootfs", what)
    labels = _table(run, "Labels", what)
    if not all(map(_is_text, [*labels, *labels.values()])):
        raise _wrong(what, "Labels are not texts")
    if root.get("type") != "layers":
        raise _wrong(what, f"rootfs.type is {root.get('type')!r}, and only 'layers' is known")
    found = ImageConfig(
        entrypoint=_texts(run, "Entrypoint", what),
        cmd=_texts(run, "Cmd", what),
        env=_texts(run, "Env", what),
        user=_text(run, "User", what),
        working_dir=_text(run, "WorkingDir", what),
        labels=labels,
        stop_signal=_text(run, "StopSignal", what),
        architecture=_text(table, "architecture", what),
        os=_text(table, "os", what),
        created=_text(table, "created", what),
        diff_ids=tuple(parse_digest(each) for each in _texts(root, "diff_ids", what)),
    )
    if found.os != "linux" or found.architecture != _machine():
        raise _wrong(
            what,
            f"the image is for {found.os or '?'}/{found.architecture or '?'}, this machine is linux/{_machine()}",
        )
    return found


def _machine() -> str:
    name = os.uname().machine
    return _ARCHITECTURES.get(name, name)


def choose(found: Iterable[Descriptor], what: str) -> Descriptor:
    """The one of an image's manifests that this machine runs; one that names no platform does for any.

    Raises:
        InvalidArgument: none does.
    """
    known = [each for each in found if each.media_type in INDEX_TYPES | MANIFEST_TYPES or not each.media_type]
    wanted = _VARIANTS.get(_machine(), ("",))
    for variant in wanted:
        for each in known:
            if each.platform == ("linux", _machine(), variant):
                return each
    for each in known:
        if each.platform is None:
            return each
    offered = sorted({"/".join(filter(None, each.platform)) for each in known if each.platform})
    raise _wrong(what, f"it has nothing for linux/{_machine()}: {', '.join(offered) or 'it is empty'}")
