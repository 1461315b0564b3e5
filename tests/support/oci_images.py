"""OCI layouts, made of whatever a test wants in them, hostile layers included: no registry is needed.

``make_image(folder, {"bin/hello": b"#!/bin/sh\n"}, {"Cmd": ["hello"]})`` is an image of one layer. What a mapping of files cannot say
is said with ``member``: links, devices, names that no tar(1) would write.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Member", "add_blob", "archive", "layer", "make_image", "make_layout", "member", "platform"]

Member = tuple[tarfile.TarInfo, bytes]

_TYPE = "application/vnd.oci.image"


def platform() -> dict[str, str]:
    """This machine's."""
    machine = os.uname().machine
    return {"os": "linux", "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)}


def member(
    name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, **fields: Any
) -> Member:
    """One entry of a layer; ``fields`` are those of TarInfo (``linkname``, ``uid``, ``devmajor``, …)."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size = kind, mode, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def layer(content: Mapping[str, bytes | str | Path] | Iterable[Member]) -> bytes:
    """A tar. In a mapping a text is where a symbolic link leads; a path is a file or a whole directory of the host's."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        if isinstance(content, Mapping):
            for name, value in content.items():
                _add(tar, name, value)
        else:
            for info, data in content:
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _add(tar: tarfile.TarFile, name: str, value: bytes | str | Path) -> None:
    if isinstance(value, Path):
        tar.add(value, arcname=name or ".")
    elif isinstance(value, str):
        tar.addfile(member(name, kind=tarfile.SYMTYPE, mode=0o777, linkname=value)[0])
    else:
        mode = 0o755 if value.startswith((b"#!", b"\x7fELF")) else 0o644
        tar.addfile(member(name, value, mode=mode)[0], io.BytesIO(value))


def make_image(
    directory: Path,
    files: Mapping[str, bytes | str | Path],
    config: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    **changes: Any,
) -> Path:
    """The layout at ``directory``, which is made: one image, whose one layer has ``files``; ``config`` as the image's own.

    ``changes`` go to ``make_layout``.
    """
    return make_layout(directory, [layer(files)], config, name=name, **changes)


def make_layout(
    directory: Path,
    layers: Sequence[bytes],
    config: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    gz: bool = True,
    about: Mapping[str, Any] | None = None,
    platforms: Sequence[Mapping[str, str]] = (),
) -> Path:
    """The layout at ``directory``. ``about`` goes over the image's configuration (``architecture``, ``rootfs``, …).

    With ``platforms`` the image is an index with a manifest for each of them, which differ in a label.
    """
    (directory / "blobs" / "sha256").mkdir(parents=True)
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    packed = [_packed(directory, data, gz=gz) for data in layers]
    diff_ids = [_digest(data) for data in layers]
    entries = []
    for each in platforms or [platform()]:
        own = dict(config or {})
        if platforms:
            own["Labels"] = {"platform": each["architecture"]}
        image = {**each, "config": own, "rootfs": {"type": "layers", "diff_ids": diff_ids}, **(about or {})}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_TYPE}.manifest.v1+json",
            "config": add_blob(directory, _json(image), "config.v1+json"),
            "layers": packed,
        }
        entry = add_blob(directory, _json(manifest), "manifest.v1+json")
        entries.append({**entry, "platform": each} if platforms else entry)
    if platforms:
        index = {"schemaVersion": 2, "mediaType": f"{_TYPE}.index.v1+json", "manifests": entries}
        entries = [add_blob(directory, _json(index), "index.v1+json")]
    if name:
        entries[0]["annotations"] = {"io.containerd.image.name": name}
    (directory / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": entries}))
    return directory


def _packed(directory: Path, data: bytes, *, gz: bool) -> dict[str, Any]:
    if gz:
        return add_blob(directory, gzip.compress(data, 1, mtime=0), "layer.v1.tar+gzip")
    return add_blob(directory, data, "layer.v1.tar")


def add_blob(directory: Path, data: bytes, kind: str) -> dict[str, Any]:
    """The descriptor of a blob that is now in the layout; ``kind`` as in ``config.v1+json``."""
    digest = _digest(data)
    (directory / "blobs" / digest.replace(":", "/")).write_bytes(data)
    return {"mediaType": f"{_TYPE}.{kind}", "digest": digest, "size": len(data)}


def archive(layout: Path, target: Path) -> Path:
    """The layout as an OCI archive at ``target``."""
    with tarfile.open(target, "w") as tar:
        for path in sorted(layout.rglob("*")):
            if path.is_file():
                tar.add(path, arcname=str(path.relative_to(layout)))
    return target


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
