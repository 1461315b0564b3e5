"""``ocishim image``: the images of this host, of which plugins' containers are made."""

from __future__ import annotations

import shlex
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from shim.cli import options, output
from shim.cli.settings import Settings, pass_settings
from shim.cli.values import Value
from shim.errors import ShimError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shim.image import Image, Images
    from shim.image.limits import Progress

__all__ = ["command"]

_SHORT = 12


def _checked(parser: str) -> Callable[[str], str]:
    """A type of text that this function of ``shim.image.reference`` takes."""

    def parse(text: str) -> str:
        from shim.image import reference  # noqa: PLC0415 - start-up time

        getattr(reference, parser)(text)
        return text

    return parse


def _names(ctx: click.Context, _: click.Parameter) -> Iterable[str]:
    options = ctx.find_root().params
    try:
        found = _images(Settings(options.get("state_root"), options.get("config_path"))).list()
    except ShimError:
        return []
    return [name for image in found for name in image.names]


_IMAGE = click.argument(
    "reference",
    cls=options.Argument,
    metavar="IMAGE",
    type=Value("image", _checked("parse_reference"), _names),
)


@click.group("image")
def command() -> None:
    """Import, list and remove images.

    IMAGE is NAME[:TAG], or the digest of an image, sha256:…, or both, NAME[:TAG]@sha256:…
    """


@command.command("import")
@click.argument("source", cls=options.Argument, metavar="PATH|containerd://NAMESPACE/NAME")
@click.argument(
    "name",
    cls=options.Argument,
    metavar="[NAME[:TAG]]",
    required=False,
    type=Value("name", _checked("parse_name"), _names),
)
@click.option(
    "--digest",
    metavar="sha256:…",
    type=Value("digest", _checked("parse_digest")),
    help="The image must have this ID or digest; another one is not imported.",
)
@options.as_json
@pass_settings
def import_(
    settings: Settings, /, source: str, name: str | None, digest: str | None, *, as_json: bool
) -> None:
    """Take an image over: from an OCI layout or archive, an archive of 'docker save', or a running containerd.

    Without NAME it keeps the names that it has there; where there are several images, NAME says which. Every digest is
    compared and every layer looked through; what does not fit, or could harm the host, is refused. The containerd is
    that of CONTAINERD_ADDRESS, by default /run/containerd/containerd.sock.
    """
    with _progress() as progress:
        image = _images(settings).import_(source, name or "", digest or "", progress)
    if as_json:
        output.print_json(image.to_dict())
    else:
        output.say(image.id)


@command.command("list")
@options.as_json
@pass_settings
def list_(settings: Settings, /, *, as_json: bool) -> None:
    """List images, a line for each name."""
    found = _images(settings).list()
    if as_json:
        output.print_json([image.to_dict() for image in found])
        return
    rows = [
        (
            name,
            _short(image.id),
            _short(image.manifest_digest),
            output.size(image.size),
            image.imported_at[:19],
        )
        for image in found
        for name in image.names or ("",)
    ]
    output.print_table(("NAME", "ID", "DIGEST", ">SIZE", "IMPORTED"), rows)


@command.command("inspect")
@_IMAGE
@options.as_json
@pass_settings
def inspect(settings: Settings, /, reference: str, *, as_json: bool) -> None:
    """Show all about an image."""
    image = _images(settings).get(reference)
    if as_json:
        output.print_json(image.to_dict())
    else:
        output.print_pairs({name: value for name, value in _pairs(image).items() if value})


@command.command("remove")
@_IMAGE
@pass_settings
def remove(settings: Settings, /, reference: str) -> None:
    """Remove a name, and with its last name, or by a digest, the image.

    What was unpacked of it stays.
    """
    _images(settings).remove(reference)


@command.command("prune")
@pass_settings
def prune(settings: Settings, /) -> None:
    """Remove the images that have no name, such as those whose name a later import has got."""
    for image in _images(settings).prune():
        output.say(image.id)


@command.command("unpack")
@_IMAGE
@click.argument("directory", cls=options.Argument, metavar="DIRECTORY", type=click.Path())
@pass_settings
def unpack(settings: Settings, /, reference: str, directory: str) -> None:
    """Make DIRECTORY, which is new or empty, the root file system of an image."""
    images = _images(settings)
    with _progress() as progress:
        images.unpack(images.get(reference), directory, progress)


def _images(settings: Settings) -> Images:
    from shim.image import Images  # noqa: PLC0415 - start-up time

    return Images(settings.config.data_root)


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:_SHORT]


def _pairs(image: Image) -> dict[str, str]:
    config = image.config
    pairs = {
        "names": " ".join(image.names),
        "id": image.id,
        "digest": image.manifest_digest,
        "index": image.index_digest,
        "size": output.size(image.size),
        "unpacked": f"{output.size(image.unpacked_size)}, {image.entries} entries in {len(image.layers)} layers",
        "imported": image.imported_at,
        "created": config.created,
        "platform": f"{config.os}/{config.architecture}",
        "entrypoint": shlex.join(config.entrypoint),
        "command": shlex.join(config.cmd),
        "environment": shlex.join(config.env),
        "user": config.user,
        "directory": config.working_dir,
        "labels": shlex.join([f"{key}={value}" for key, value in config.labels.items()]),
    }
    return {name: _printable(value) for name, value in pairs.items()}


def _printable(text: str) -> str:
    """An image may say what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


@contextmanager
def _progress() -> Iterator[Progress]:
    """What is done and how far it is, on stderr, where that is a terminal."""
    from shim.image.limits import silent  # noqa: PLC0415 - start-up time

    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console  # noqa: PLC0415 - start-up time
    from rich.progress import BarColumn, DownloadColumn, TextColumn  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(binary_units=True))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        shown = bar.tasks[task]

        def tell(what: str, done: int, total: int) -> None:
            shown.total = total or None  # which update() takes for no change
            bar.update(task, description=what, completed=done)

        yield tell
