"""An OCI layout in a directory: which of its images is meant, and the blobs that this consists of.

Source: image-spec image-layout.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shim.errors import InvalidArgument, NotFound
from shim.image.files import read_document
from shim.image.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    ImageConfig,
    Manifest,
    choose,
    parse_config,
    parse_index,
    parse_manifest,
)
from shim.image.reference import parse_name

if TYPE_CHECKING:
    from pathlib import Path

    from shim.image.limits import Limits

__all__ = ["Found", "blob_path", "find"]

_VERSION = "1.0.0"
_MOST_INDEXES = 4


@dataclass(frozen=True, slots=True)
class Found:
    """An image in a layout, as its documents describe it. ``index`` is the digest of the index that led here, if one did."""

    names: tuple[str, ...]
    index: str
    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig


def blob_path(layout: Path, digest: str) -> Path:
    """Where a layout keeps a blob."""
    return layout.joinpath("blobs", *digest.split(":"))


def find(layout: Path, name: str, where: str, limits: Limits) -> Found:
    """The image in ``layout`` for this machine; with ``name`` that of this name, where there are several.

    ``where`` is what errors call it.

    Raises:
        NotFound: it is no layout, or a document is missing.
        InvalidArgument: it is ambiguous or damaged, or has nothing for this machine.
        ResourceExhausted: a document is too long.
        OSError: it cannot be read.
    """
    try:
        version = json.loads(read_document(layout / "oci-layout", limits.document))
        top = parse_index(read_document(layout / "index.json", limits.document), f"{where}/index.json")
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = os.path.basename(error.filename)
        raise NotFound(f"{where} is no OCI layout: it has no {missing}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{where}/oci-layout is not JSON: {error}") from None
    if not isinstance(version, dict) or version.get("imageLayoutVersion") != _VERSION:
        raise InvalidArgument(f"{where}/oci-layout is not that of version {_VERSION}")
    entries = _meant(top, name, where)
    descriptor, index = _manifest_of(layout, choose(entries, f"{where}/index.json"), limits)
    manifest = parse_manifest(_document(layout, descriptor, limits), descriptor.digest)
    config = parse_config(_document(layout, manifest.config, limits), manifest.config.digest)
    if len(config.diff_ids) != len(manifest.layers):
        raise InvalidArgument(
            f"{descriptor.digest} has {len(manifest.layers)} layers, and its configuration {len(config.diff_ids)}"
        )
    return Found(_names(entries), index, descriptor, manifest, config)


def _names(entries: tuple[Descriptor, ...]) -> tuple[str, ...]:
    found = []
    for text in (text for entry in entries for text in entry.names):
        # A tag alone, as skopeo writes it, says nothing of what it is a tag of.
        if any(c in text for c in ":/"):
            with suppress(InvalidArgument):
                found.append(parse_name(text))
    return tuple(dict.fromkeys(found))


def _meant(top: tuple[Descriptor, ...], name: str, where: str) -> tuple[Descriptor, ...]:
    """The entries of one image, which differ in their platform or in their names only."""
    named = tuple(entry for entry in top if name and (name in _names((entry,)) or name in entry.names))
    entries = named or top
    if len({entry.names for entry in entries if entry.platform}) > 1 or _are_several(entries):
        known = sorted({shown for entry in entries for shown in entry.names})
        raise InvalidArgument(
            f"{where} has several images{': ' + ', '.join(known) if known else ''}; say which by its name"
        )
    return entries


def _are_several(entries: tuple[Descriptor, ...]) -> bool:
    return len({entry.digest for entry in entries if entry.platform is None}) > 1


def _manifest_of(layout: Path, entry: Descriptor, limits: Limits) -> tuple[Descriptor, str]:
    """The manifest that an entry leads to, and the digest of the index on the way, or an empty text."""
    index = ""
    for _ in range(_MOST_INDEXES):
        if entry.media_type not in INDEX_TYPES:
            break
        index = index or entry.digest
        entry = choose(parse_index(_document(layout, entry, limits), entry.digest), entry.digest)
    if entry.media_type not in MANIFEST_TYPES:
        raise InvalidArgument(f"{entry.digest} is of {entry.media_type!r}, and no manifest of an image")
    return entry, index


def _document(layout: Path, descriptor: Descriptor, limits: Limits) -> bytes:
    """A blob that is read as a whole, and is what its descriptor says."""
    try:
        body = read_document(blob_path(layout, descriptor.digest), limits.document)
    except FileNotFoundError:
        raise NotFound(f"the layout has no blob {descriptor.digest}") from None
    found = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if found != descriptor.digest:
        raise InvalidArgument(f"what is called {descriptor.digest} has the digest {found}")
    if len(body) != descriptor.size:
        raise InvalidArgument(f"{descriptor.digest} has {len(body)} bytes, and not {descriptor.size}")
    return body
