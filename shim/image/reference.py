"""What images are called: names with a tag, and digests.

A name is kept in the short form that Docker shows: ``docker.io/library/busybox`` and ``busybox:latest`` are one name, so that what
came out of containerd is found by what a plugin's configuration says. The name says nothing of where an image comes from: nothing
here asks a registry.

Source: distribution/reference (the grammar, and what is left out); image-spec descriptor.md (digests).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from shim.errors import InvalidArgument

__all__ = ["Reference", "parse_digest", "parse_name", "parse_reference"]

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]{1,5})?"
_NAME = re.compile(
    rf"(?:(?P<host>{_HOST})/)?(?P<path>{_PART}(?:/{_PART})*)(?::(?P<tag>\w[\w.-]{{0,127}}))?", re.ASCII
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST = 255
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Reference:
    """Which image is meant: one with this name, with this digest, or with both."""

    name: str = ""
    digest: str = ""


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


def parse_digest(text: str) -> str:
    """``sha256:`` and 64 hexadecimal digits, of a text that may lack the prefix.

    Raises:
        InvalidArgument: it is no digest of that kind.
    """
    digest = text if ":" in text else f"sha256:{text}"
    if not _DIGEST.fullmatch(digest):
        raise InvalidArgument(f"{_shown(text)} is no digest: write sha256: and 64 digits of 0-9 and a-f")
    return digest


def parse_name(text: str) -> str:
    """The name as it is kept: short, with its tag, which is ``latest`` where there is none.

    Raises:
        InvalidArgument: it is no name of an image.
    """
    # Without a host, what looks like one is the beginning of the path, unless it could be nothing else: as Docker has it.
    first, slash, _ = text.partition("/")
    is_host = bool(slash) and (
        any(c in first for c in ".:") or first == "localhost" or first != first.lower()
    )
    match = _NAME.fullmatch(text) if is_host else _NAME.fullmatch(f"docker.io/{text}")
    if match is None or len(text) > _MOST:
        raise InvalidArgument(
            f"{_shown(text)} is no name of an image: write [HOST/]PATH[:TAG], the path in small letters, {_MOST} characters at most"
        )
    host, path, tag = match["host"], match["path"], match["tag"] or "latest"
    if host in {"docker.io", "index.docker.io"}:
        return f"{path.removeprefix('library/') if path.count('/') == 1 else path}:{tag}"
    return f"{host}/{path}:{tag}"


def parse_reference(text: str) -> Reference:
    """``NAME[:TAG]``, ``sha256:…``, or ``NAME[:TAG]@sha256:…``.

    Raises:
        InvalidArgument: it is none of these.
    """
    name, at, digest = text.partition("@")
    if at:
        return Reference(parse_name(name), parse_digest(digest))
    if _DIGEST.fullmatch(text):
        return Reference(digest=text)
    return Reference(parse_name(text))
