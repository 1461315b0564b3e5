"""What the entry of a layer may be. Pure: a description in, a reason for refusal out.

umoci unpacks in the root of the image, whatever a link says; that is the wall. These rules are the door: what no honest builder of
images writes is refused by name before anything is written, and an unpacker's mistake costs nothing. Docker has the same ones for
links, the image specification those for whiteouts and for entries that come twice.

Allowed, though they look odd: absolute symbolic links (``/bin/sh -> /bin/busybox`` means the image's own), FIFOs, and
set-user-ID programs, which whoever runs the image may make harmless with no_new_privileges; the unpacked tree belongs where only its
owner may go, as the host's users could run them there.

Source: image-spec layer.md; docker pkg/archive (diff.go, archive.go); kernel filesystems/overlayfs (trusted.overlay.*).
"""

from __future__ import annotations

import tarfile

__all__ = ["OPAQUE", "WHITEOUT", "refusal"]

OPAQUE = ".wh..wh..opq"
WHITEOUT = ".wh."
_NAME_MAX = 255
_PATH_MAX = 4096

_DEVICES = {tarfile.CHRTYPE, tarfile.BLKTYPE}
_KNOWN = {
    tarfile.REGTYPE,
    tarfile.AREGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.FIFOTYPE,
}
# An archive may say these of its next entry; of what they are good for, Go knows one thing and Python another.
_SPARSE = "GNU.sparse."
_XATTR = "SCHILY.xattr."


def refusal(entry: tarfile.TarInfo) -> str:
    """Why ``entry`` cannot be taken; empty if it can."""
    if entry.type in _DEVICES:
        return "it is a device node"
    if entry.type not in _KNOWN or entry.sparse is not None or _says(entry, _SPARSE):
        return "it is of a kind that layers do not have"
    if any(name.removeprefix(_XATTR).startswith("trusted.") for name in entry.pax_headers):
        return "it has attributes that are the host's own (trusted.*)"
    if set(entry.name.split("/")) <= {"", "."} and not entry.isdir():
        return "it takes the place of the root directory"
    return _name_refusal(entry) or _link_refusal(entry)


def _says(entry: tarfile.TarInfo, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in entry.pax_headers)


def _name_refusal(entry: tarfile.TarInfo) -> str:
    parts = entry.name.split("/")
    if entry.name.startswith("/"):
        return "its name is an absolute path"
    if ".." in parts:
        return "its name has '..' in it"
    if "\0" in entry.name:
        return "its name has a NUL in it"
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    if max(sizes) > _NAME_MAX or sum(sizes) + len(sizes) > _PATH_MAX:
        return "its name is too long"
    if any(part.startswith(WHITEOUT) for part in parts[:-1]):
        return "it is below a whiteout"
    return _whiteout_refusal(entry, parts[-1])


def _whiteout_refusal(entry: tarfile.TarInfo, name: str) -> str:
    if not name.startswith(WHITEOUT):
        return ""
    hidden = name.removeprefix(WHITEOUT)
    if name != OPAQUE and (hidden in {"", ".", ".."} or hidden.startswith(WHITEOUT)):
        return "it is a whiteout of nothing that there can be"
    if not entry.isreg() or entry.size:
        return "it is a whiteout, and no empty file"
    return ""


def _link_refusal(entry: tarfile.TarInfo) -> str:
    if not entry.issym() and not entry.islnk():
        return ""
    target = entry.linkname
    if not target or "\0" in target or len(target.encode("utf-8", "surrogateescape")) >= _PATH_MAX:
        return "it is a link to nothing that there can be"
    if entry.islnk():
        return _hard_link_refusal(target)
    above = [] if target.startswith("/") else entry.name.split("/")[:-1]
    if _climbs_out([*above, *target.split("/")]):
        return f"it is a symbolic link that leads out of the image, to {target!r}"
    return ""


def _hard_link_refusal(target: str) -> str:
    parts = target.split("/")
    if target.startswith("/") or ".." in parts:
        return f"it is a hard link that leads out of the image, to {target!r}"
    if any(part.startswith(WHITEOUT) for part in parts):
        return "it is a hard link to a whiteout"
    return ""


def _climbs_out(parts: list[str]) -> bool:
    depth = 0
    for part in parts:
        if part == "..":
            depth -= 1
        elif part not in {"", "."}:
            depth += 1
        if depth < 0:
            return True
    return False
