"""An image of the store, as whoever runs it sees it, and as its record keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shim.errors import DataLoss
from shim.image.manifest import ImageConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Blob", "Image", "from_record", "to_record"]


@dataclass(frozen=True, slots=True)
class Blob:
    """One file of an image. ``media_type`` as OCI spells it."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was looked through when it was imported.

    The digests that name it are those of its configuration (the ID, as Docker has it), of its manifest, and of the index
    that led to that, if one did.
    """

    id: str
    manifest_digest: str
    index_digest: str
    names: tuple[str, ...]
    config: ImageConfig
    manifest: Blob
    layers: tuple[Blob, ...]
    config_size: int
    unpacked_size: int
    """Bytes of all layers together, without compression."""
    entries: int
    imported_at: str

    @property
    def digests(self) -> frozenset[str]:
        """All that may be said after an ``@``."""
        return frozenset(filter(None, (self.id, self.manifest_digest, self.index_digest)))

    @property
    def size(self) -> int:
        """Bytes that it takes in the store, some of them perhaps with other images."""
        return self.config_size + self.manifest.size + sum(layer.size for layer in self.layers)

    @property
    def blobs(self) -> frozenset[str]:
        """The digests of all its files."""
        return frozenset({self.id, self.manifest_digest, *(layer.digest for layer in self.layers)})

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: the names that image-spec and Docker have for these things."""
        config = self.config
        return {
            "id": self.id,
            "digest": self.manifest_digest,
            "index_digest": self.index_digest,
            "names": list(self.names),
            "size": self.size,
            "unpacked_size": self.unpacked_size,
            "entries": self.entries,
            "imported_at": self.imported_at,
            "created": config.created,
            "platform": f"{config.os}/{config.architecture}",
            "config": {
                "Entrypoint": list(config.entrypoint),
                "Cmd": list(config.cmd),
                "Env": list(config.env),
                "User": config.user,
                "WorkingDir": config.working_dir,
                "Labels": dict(config.labels),
                "StopSignal": config.stop_signal,
            },
            "layers": [{"digest": layer.digest, "size": layer.size} for layer in self.layers],
        }


def to_record(image: Image) -> dict[str, Any]:
    """What ``from_record`` makes the same image of."""
    return asdict(image)


def from_record(record: Mapping[str, Any]) -> Image:
    """The image of a record.

    Raises:
        DataLoss: it is none.
    """
    try:
        return Image(
            **{
                **record,
                "names": tuple(record["names"]),
                "config": _config(record["config"]),
                "manifest": Blob(**record["manifest"]),
                "layers": tuple(Blob(**layer) for layer in record["layers"]),
            }
        )
    except (TypeError, LookupError, AttributeError) as error:
        raise DataLoss(f"the record of the images is broken: {error!r}") from None


def _config(record: dict[str, Any]) -> ImageConfig:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
    return ImageConfig(**values)
