"""``ocishim spec``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from shim.errors import AlreadyExists, from_os_error
from shim.oci.spec import default_spec

__all__ = ["command"]


@click.command("spec")
@click.option(
    "-b",
    "--bundle",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where; by default, here.",
)
@click.option(
    "--rootless", is_flag=True, help="One that needs no root: a user namespace with yourself in it."
)
def command(*, bundle: Path, rootless: bool) -> None:
    """Write a config.json to begin with: a shell on a terminal, in the directory rootfs beside it."""
    text = json.dumps(default_spec(rootless=rootless, uid=os.geteuid(), gid=os.getegid()), indent=2)
    file = bundle / "config.json"
    try:
        bundle.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="ascii") as config:
            config.write(f"{text}\n")
    except FileExistsError:
        raise AlreadyExists(f"{file} exists already; remove it first, or use another --bundle") from None
    except OSError as error:
        raise from_os_error(error, f"{file} cannot be written") from error
