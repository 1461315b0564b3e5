"""The images of this host: names, records, and the blobs that these are about.

    <data root>/images/images.json     the record: all images, replaced as a whole
                       blobs/sha256/   each blob once, whatever images it belongs to
                       .work-*/        imports and unpackings that are going on

An import works in a directory of its own. There every blob is copied and its digest compared, and every layer looked through; only
then, under the lock, are the blobs moved to their place and the record replaced. So a crash at any moment leaves the old record or
the new one, and what it can leave besides, blobs that no record speaks of, the next import or removal clears away. Whoever unpacks has
links of its own to the blobs, and a removal meanwhile does it no harm.

Every call blocks, an import for as long as an image is large; from an event loop it belongs into a thread.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    from_os_error,
)
from shim.image import containerd, unpacking
from shim.image.archive import read_archive
from shim.image.files import open_regular, sync, take
from shim.image.image import Blob, Image, from_record, to_record
from shim.image.layer import look_through
from shim.image.layout import blob_path, find
from shim.image.limits import Limits, Progress, silent
from shim.image.reference import parse_digest, parse_name, parse_reference
from shim.image.staging import staging
from shim.linux.locks import locked_directory
from shim.store import records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from shim.image.layout import Found
    from shim.image.manifest import Descriptor

__all__ = ["Images"]

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise from_os_error(error, what) from error


class Images:
    """The images below a data root. Any number of processes may use it at once."""

    def __init__(self, data_root: str | Path, limits: Limits | None = None) -> None:
        self._top = Path(data_root, "images")
        self._record = self._top / "images.json"
        self._limits = limits or Limits()

    def list(self) -> tuple[Image, ...]:
        """All images, the newest first.

        Raises:
            DataLoss: the record is broken.
            ShimError: it cannot be read.
        """
        return tuple(sorted(self._load(), key=lambda image: image.imported_at, reverse=True))

    def get(self, reference: str) -> Image:
        """The image that ``NAME[:TAG]``, ``sha256:…`` or both, joined by ``@``, mean. The digest may be any of those that an image has.

        Raises:
            InvalidArgument: it is no reference.
            NotFound: there is no such image.
            FailedPrecondition: the image of that name has another digest.
            ShimError: the record cannot be read.
        """
        return _pick(self._load(), reference)

    def import_(
        self, source: str | Path, name: str = "", expected_digest: str = "", progress: Progress = silent
    ) -> Image:
        """The image of ``source`` is in the store, and has ``name``, or else the names that it has there.

        ``source`` is a directory with an OCI layout, an archive of OCI's or of ``docker save``, or
        ``containerd://NAMESPACE/NAME``. A name that another image had is this one's now. Where there are several images
        ``name`` says which is meant. ``expected_digest`` is to be one of those that name the image.

        Raises:
            InvalidArgument: an argument is wrong; or the source is: a digest lies, a layer holds what is refused, it has
                nothing for this machine. Nothing is left of it.
            FailedPrecondition: it is another image than the one expected; a program of the host has failed.
            NotFound: the source does not exist, or a program is not installed.
            ResourceExhausted: it exceeds the limits, or the disk is full.
            ShimError: something cannot be read or written.
        """
        name = parse_name(name) if name else ""
        expected = parse_digest(expected_digest) if expected_digest else ""
        with _translated(f"cannot import {source}"):
            self._top.parent.mkdir(
                mode=0o700, parents=True, exist_ok=True
            )  # mode is that of the last one alone
            self._top.mkdir(mode=0o700, exist_ok=True)
            with staging(self._top) as work:
                layout, owned = self._layout(source, name, work, progress)
                found = find(layout, name, str(source), self._limits)
                _check_expected(found, expected, str(source))
                blobs = work / "verified"
                blobs.mkdir()
                self._take(found, layout, blobs, progress, owned=owned)
                image = self._look_through(found, blobs, progress)
                return self._publish(replace(image, names=(name,) if name else found.names), blobs)

    def remove(self, reference: str) -> Image:
        """What was named is gone: a name, and with its last name, or by a digest, the image. Returns what was removed.

        Raises:
            InvalidArgument: it is no reference.
            NotFound: there is no such image.
            FailedPrecondition: the image of that name has another digest.
            ShimError: the record cannot be written.
        """
        meant = parse_reference(reference)
        with _translated(f"cannot remove {reference}"):
            if not self._top.is_dir():
                raise NotFound(f"image {reference} does not exist")
            with locked_directory(str(self._top)):
                images = self._load()
                image = _pick(images, reference)
                names = tuple(name for name in image.names if meant.name and name != meant.name)
                if names:
                    self._save([replace(image, names=names), *(each for each in images if each != image)])
                    return replace(image, names=(meant.name,))
                gone = set() if meant.name else {meant.digest}
                self._save(each for each in images if each != image and each.digests.isdisjoint(gone))
                return image

    def prune(self) -> tuple[Image, ...]:
        """Images without a name, as one is whose name another has got, are gone. Returns these.

        Raises:
            ShimError: the record cannot be read or written.
        """
        with _translated("cannot remove images without a name"):
            if not self._top.is_dir():
                return ()
            with locked_directory(str(self._top)):
                images = self._load()
                nameless = tuple(image for image in images if not image.names)
                if nameless:
                    self._save(image for image in images if image.names)
                return nameless

    def unpack(self, image: Image, directory: str | Path, progress: Progress = silent) -> None:
        """``directory``, which did not exist or was empty, is the root file system of ``image``.

        As root with the owners, modes and attributes that the image has, else with those that a user can give.

        Raises:
            FailedPrecondition: there is something in ``directory``; it cannot be unpacked.
            NotFound: the image is gone; or umoci is not installed, without which only root can unpack.
            ResourceExhausted: there is no room for it.
            ShimError: something cannot be read or written. Nothing is left then.
        """
        target = Path(directory).absolute()
        with _translated(f"cannot unpack {image.id} to {target}"):
            unpacking.check_room(image, target)
            with staging(self._top) as work:
                self._link(image, work)
                progress("unpacking", 0, 0)
                unpacking.unpack(image, work, target)

    def _layout(self, source: str | Path, name: str, work: Path, progress: Progress) -> tuple[Path, bool]:
        """The layout that has the image, and whether it is ours."""
        layout = work / "layout"
        if str(source).startswith(containerd.PREFIX):
            containerd.export(str(source), layout, self._limits, progress)
            return layout, True
        path = Path(source).absolute()
        if path.is_dir():
            return path, False
        read_archive(path, name, layout, self._limits, progress)
        return layout, True

    def _take(self, found: Found, layout: Path, blobs: Path, progress: Progress, *, owned: bool) -> None:
        wanted = {blob.digest: blob for blob in _blobs(found)}
        total = sum(blob.size for blob in wanted.values())
        done = 0

        def tell(size: int) -> None:
            nonlocal done
            done += size
            progress("copying", done, total)

        for blob in wanted.values():
            if blob.size > self._limits.blob:
                raise ResourceExhausted(
                    f"{blob.digest} has {blob.size} bytes, the most is {self._limits.blob}"
                )
            try:
                take(blob_path(layout, blob.digest), blobs / blob.digest, blob, tell, move=owned)
            except FileNotFoundError:
                raise NotFound(f"the layout has no blob {blob.digest}") from None

    def _look_through(self, found: Found, blobs: Path, progress: Progress) -> Image:
        size = entries = 0
        layers: list[Blob] = []
        for number, (blob, diff_id) in enumerate(
            zip(found.manifest.layers, found.config.diff_ids, strict=True), 1
        ):
            what = f"layer {number} ({blob.digest})"
            limits = replace(
                self._limits, unpacked=self._limits.unpacked - size, entries=self._limits.entries - entries
            )
            tell = _teller(progress, f"looking through layer {number} of {len(found.manifest.layers)}")
            with open_regular(blobs / blob.digest) as file:
                contents = look_through(file, what, limits, tell)
            if contents.digest != diff_id:
                raise InvalidArgument(f"{what} holds {contents.digest}, and the configuration says {diff_id}")
            layers.append(Blob(f"{_LAYER}{'+gzip' if contents.is_gzip else ''}", blob.digest, blob.size))
            size, entries = size + contents.size, entries + contents.entries
        return Image(
            id=found.manifest.config.digest,
            manifest_digest=found.descriptor.digest,
            index_digest=found.index,
            names=(),
            config=found.config,
            manifest=Blob(_MANIFEST, found.descriptor.digest, found.descriptor.size),
            layers=tuple(layers),
            config_size=found.manifest.config.size,
            unpacked_size=size,
            entries=entries,
            imported_at=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        )

    def _publish(self, image: Image, blobs: Path) -> Image:
        """The blobs and the record are where everybody finds them."""
        with locked_directory(str(self._top)):
            place = blob_path(self._top, "sha256:")
            place.mkdir(parents=True, exist_ok=True)
            for blob in blobs.iterdir():
                blob.rename(blob_path(self._top, blob.name))
            for directory in (place, place.parent, self._top):
                sync(directory)
            images = self._load()
            same = [each for each in images if each.manifest_digest == image.manifest_digest]
            names = dict.fromkeys([*(name for each in same for name in each.names), *image.names])
            image = replace(image, names=tuple(names))
            others = [each for each in images if each not in same]
            kept = [replace(each, names=tuple(n for n in each.names if n not in names)) for each in others]
            self._save([*kept, image])
            return image

    def _link(self, image: Image, work: Path) -> None:
        """The blobs of ``image`` are in ``work``, a layout to be, whatever is removed from now on."""
        blob_path(work, "sha256:").mkdir(parents=True)
        for digest in image.blobs:
            try:
                os.link(blob_path(self._top, digest), blob_path(work, digest))
            except FileNotFoundError:
                raise NotFound(f"image {image.id} does not exist any more") from None

    def _load(self) -> tuple[Image, ...]:
        try:
            listed = records.load(self._record).get("images")
        except NotFound:
            return ()
        if not isinstance(listed, list):
            raise DataLoss(f"{self._record} is broken, it has no images")
        return tuple(from_record(each) for each in listed)

    def _save(self, images: Iterable[Image]) -> None:
        """The record is ``images``, and there are no blobs but theirs. The caller has the lock."""
        kept = list(images)
        records.save(self._record, {"images": [to_record(image) for image in kept]})
        used = {digest for image in kept for digest in image.blobs}
        for blob in blob_path(self._top, "sha256:").iterdir():
            if f"sha256:{blob.name}" not in used:
                blob.unlink()


def _teller(progress: Progress, what: str) -> Callable[[int], None]:
    return lambda done: progress(what, done, 0)


def _pick(images: Sequence[Image], reference: str) -> Image:
    meant = parse_reference(reference)
    named = [image for image in images if not meant.name or meant.name in image.names]
    found = [image for image in named if not meant.digest or meant.digest in image.digests]
    if found:
        return found[0]
    if meant.name and meant.digest and named:
        raise FailedPrecondition(f"image {meant.name} has the ID {named[0].id}, and not {meant.digest}")
    raise NotFound(
        f"image {meant.name or meant.digest} does not exist; to see those that do: ocishim image list"
    )


def _check_expected(found: Found, expected: str, source: str) -> None:
    known = {found.manifest.config.digest, found.descriptor.digest, found.index}
    if expected and expected not in known:
        raise FailedPrecondition(
            f"{source} has an image with the ID {found.manifest.config.digest} and the digest {found.descriptor.digest}, and not {expected}"
        )


def _blobs(found: Found) -> list[Descriptor]:
    return [found.descriptor, found.manifest.config, *found.manifest.layers]
