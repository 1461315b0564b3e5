"""Images of the sample root filesystem, as one OCI layout in an archive: no registry is needed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile

from support import bed

__all__ = ["BUSYBOX", "PAUSE", "archive"]

BUSYBOX = "ocishim.test/busybox:latest"
PAUSE = "ocishim.test/pause:latest"
"""Does nothing for ever, as the first container of a Kubernetes pod has to."""

_COMMANDS = {BUSYBOX: ["sh"], PAUSE: ["sleep", "inf"]}


def archive() -> bytes:
    """A tar with all the images, which share one layer."""
    layer = _layer()
    blobs = {_digest(layer): layer}
    index = []
    for name, command in _COMMANDS.items():
        config = _json(_config(command, _digest(layer)))
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": _descriptor("config.v1+json", config),
                "layers": [_descriptor("layer.v1.tar", layer)],
            }
        )
        blobs |= {_digest(config): config, _digest(manifest): manifest}
        entry = _descriptor("manifest.v1+json", manifest)
        index.append({**entry, "annotations": {"io.containerd.image.name": name}})
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for digest, blob in blobs.items():
            _add(tar, f"blobs/{digest.replace(':', '/')}", blob)
        _add(tar, "index.json", _json({"schemaVersion": 2, "manifests": index}))
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    return out.getvalue()


def _layer() -> bytes:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(bed.rootfs(), arcname=".")
    return layer.getvalue()


def _config(command: list[str], layer_digest: str) -> dict[str, object]:
    return {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": command,
        },
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    }


def _descriptor(kind: str, data: bytes) -> dict[str, object]:
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": _digest(data), "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
