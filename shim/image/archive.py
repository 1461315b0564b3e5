"""Images in one tar, made into a layout: OCI's archives as they are read, Docker's by skopeo.

Of an OCI archive, plain or in gzip, only the files that a layout has are taken, whatever else is in it. An archive of
``docker save`` has them too since Docker 25; older ones are converted, keeping the digests, so that an image has here the ID that
it has in Docker.

Source: image-spec image-layout.md; docker image spec v1.2 (manifest.json); skopeo-copy(1), containers-transports(5).
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shim.errors import InvalidArgument, NotFound, ResourceExhausted
from shim.image import tools
from shim.image.files import open_regular, read_document
from shim.image.layout import blob_path
from shim.image.manifest import parse_manifest
from shim.image.reference import parse_name
from shim.image.tar_stream import TarStream, members

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path

    from shim.image.limits import Limits, Progress

__all__ = ["extract", "read_archive"]

_DOCUMENTS = {"oci-layout", "index.json", "manifest.json"}
_BLOB = re.compile(r"blobs/sha256/[0-9a-f]{64}")


def read_archive(path: Path, name: str, layout: Path, limits: Limits, progress: Progress) -> None:
    """``layout`` is a layout with what is in the archive ``path``: all of OCI's, the one image ``name`` of Docker's.

    Raises:
        InvalidArgument: it is no archive of images, it is damaged, or ambiguous.
        ResourceExhausted: it is too large.
        NotFound: skopeo is needed, and not installed.
        FailedPrecondition: skopeo has failed.
        OSError: it cannot be read, or ``layout`` not be written.
    """
    with open_regular(path) as file:
        extract(file, str(path), layout, limits, progress)
    if (layout / "index.json").exists():
        return
    if not (layout / "manifest.json").exists():
        raise InvalidArgument(
            f"{path} is no archive of an image: it has neither index.json nor manifest.json"
        )
    _convert(path, name, layout, limits, progress)


def extract(file: BufferedReader, what: str, layout: Path, limits: Limits, progress: Progress) -> None:
    """``layout`` has those files of the tar that a layout can have; their digests are not looked at.

    Raises:
        InvalidArgument: it is no tar, or a damaged one.
        ResourceExhausted: it, or one of its files, is too large.
        OSError: it cannot be read, or ``layout`` not be written.
    """
    blob_path(layout, "sha256:").mkdir(parents=True)
    stream = TarStream(file, limits, what)
    for count, entry in enumerate(members(stream, what)):
        if count >= limits.entries:
            raise ResourceExhausted(f"{what} has more than {limits.entries} entries")
        name = entry.name.removeprefix("./")
        if not entry.isreg() or entry.sparse is not None or not (name in _DOCUMENTS or _BLOB.fullmatch(name)):
            continue
        limit = limits.document if name in _DOCUMENTS else limits.blob
        if entry.size > limit:
            raise ResourceExhausted(f"{what}: {name} is longer than {limit} bytes")
        # The last of two is the one that counts, as everywhere with tar.
        with (layout / name).open("wb") as copy:
            for chunk in stream.pass_over(entry.size):
                copy.write(chunk)
                progress("reading the archive", stream.tell(), 0)


def _convert(path: Path, name: str, layout: Path, limits: Limits, progress: Progress) -> None:
    skopeo = tools.need("skopeo", "skopeo", f"{path} is an archive of 'docker save', which")
    number, config, names = _meant(read_document(layout / "manifest.json", limits.document), name, str(path))
    progress("converting the archive", 0, 0)
    _plain(path, layout / "docker.tar", limits)
    # Relative names: a colon in a path would end it for skopeo.
    source = f"docker-archive:docker.tar:@{number}"
    tools.run(
        [skopeo, "--insecure-policy", "copy", "--quiet", source, "dir:copy"],
        layout,
        f"skopeo cannot read {path}",
    )
    body = read_document(layout / "copy" / "manifest.json", limits.document)
    found = parse_manifest(body, f"what skopeo made of {path}")
    if found.config.digest.removeprefix("sha256:") not in config:
        raise InvalidArgument(
            f"{path} has an image {config!r}, of which skopeo has made {found.config.digest}"
        )
    for blob in (found.config, *found.layers):
        with suppress(FileNotFoundError):  # a layer can come twice; what is missing is seen where it is read
            (layout / "copy" / blob.digest.removeprefix("sha256:")).rename(blob_path(layout, blob.digest))
    _write_layout(layout, body, names)


def _plain(path: Path, target: Path, limits: Limits) -> None:
    """``target`` is the archive, without gzip, of which skopeo 1.9 cannot read a byte."""
    with open_regular(path) as file:
        stream = TarStream(file, limits, str(path))
        if not stream.is_gzip:
            target.symlink_to(path.absolute())
            return
        with target.open("xb") as copy:
            copy.writelines(stream.pass_over(limits.unpacked + 1))


def _meant(body: bytes, name: str, where: str) -> tuple[int, str, tuple[str, ...]]:
    """The number, the configuration's file and the names of the image that is meant."""
    try:
        images = [(str(each["Config"]), tuple(map(str, each["RepoTags"] or ()))) for each in json.loads(body)]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise InvalidArgument(f"{where}/manifest.json is not what 'docker save' writes: {error!r}") from None
    known = [shown for _, names in images for shown in names]
    for number, (config, names) in enumerate(images):
        if len(images) == 1 or (name and name in map(_kept, names)):
            return number, config, names
    if not images:
        raise NotFound(f"{where} has no images")
    raise InvalidArgument(f"{where} has several images: {', '.join(known)}; say which by its name")


def _kept(name: str) -> str:
    with suppress(InvalidArgument):
        return parse_name(name)
    return ""


def _write_layout(layout: Path, manifest: bytes, names: tuple[str, ...]) -> None:
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    blob_path(layout, digest).write_bytes(manifest)
    entry: dict[str, Any] = {
        "mediaType": json.loads(manifest).get("mediaType"),
        "digest": digest,
        "size": len(manifest),
    }
    noted = [{**entry, "annotations": {"io.containerd.image.name": name}} for name in names]
    index = {"schemaVersion": 2, "manifests": noted or [entry]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
