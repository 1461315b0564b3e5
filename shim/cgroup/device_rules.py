"""Which devices the processes of a running container may use, changed while it runs.

cgroup v1 has files. On v2 the rules are BPF programs that whoever made the container attached to its group, and a
request has to pass all of them: another program beside them can only forbid more. So each is replaced by itself with a
piece put before it, which lets the new device pass and leaves everything else to the rest. The piece begins with a mark,
by which it is found again to be taken out.

Source: kernel Documentation/admin-guide/cgroup-v1/devices.rst, Documentation/bpf/standardization/instruction-set.rst;
struct bpf_cgroup_dev_ctx in include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shim.cgroup.accounting import group_of
from shim.cgroup.legacy import LegacyGroup
from shim.errors import InvalidArgument, from_os_error
from shim.linux import bpf
from shim.linux.fd import OwnedFd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shim.cgroup.hierarchy import Hierarchy

__all__ = ["DeviceRule", "DeviceRules", "allowing", "denying"]

_KINDS: Final = {"b": 1, "c": 2}
"""BPF_DEVCG_DEV_BLOCK and BPF_DEVCG_DEV_CHAR; the lower half of access_type."""
_ACCESS: Final = {"m": 1, "r": 2, "w": 4}
"""BPF_DEVCG_ACC_MKNOD, _READ and _WRITE; the upper half."""

_MARK: Final = 0x6F636973  # "ocis"

# Operations: the class in the lower three bits, 64 bit where not said otherwise.
_LOAD_WORD: Final = 0x61
_MOVE: Final = 0xB7
_MOVE_REGISTER: Final = 0xBF
_AND: Final = 0x57
_SHIFT_RIGHT: Final = 0x77
_JUMP_IF_NOT_EQUAL: Final = 0x55
_EXIT: Final = 0x95
_CONTEXT: Final = 1
_ACCESS_TYPE, _MAJOR, _MINOR = 0, 4, 8


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """One device, and what may be done with it.

    Raises:
        InvalidArgument: a value can never work.
    """

    kind: str
    """``c`` or ``b``."""
    major: int
    minor: int
    access: str = "rwm"
    """Of r (read), w (write) and m (mknod)."""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InvalidArgument(f"device kind {self.kind!r}: use c or b")
        if not re.fullmatch(r"(?!.*(.).*\1)[rwm]+", self.access):
            raise InvalidArgument(f"device access {self.access!r}: use r, w and m, each at most once")
        if not (0 <= self.major < 1 << 12 and 0 <= self.minor < 1 << 20):
            raise InvalidArgument(f"device {self.major}:{self.minor}: there is no such number")

    def __str__(self) -> str:
        return f"{self.kind} {self.major}:{self.minor} {self.access}"


class DeviceRules:
    """The rules of one container's group."""

    def __init__(self, directory: str, *, unified: bool) -> None:
        """``directory``: the group's, on v1 in the hierarchy of the devices controller."""
        self._directory = directory
        self._unified = unified

    @classmethod
    def of(cls, pid: int, hierarchy: Hierarchy) -> DeviceRules | None:
        """Those of the group of ``pid``, the init of a container; None where nobody made one, and nothing is forbidden.

        Raises:
            NotFound: there is no such process.
        """
        group = group_of(pid, hierarchy)
        if isinstance(group, LegacyGroup):
            directory = group.directories.get("devices")
            return cls(directory, unified=False) if directory else None
        return cls(group.directory, unified=True) if group else None

    def allow(self, rule: DeviceRule) -> bool:
        """The device may be used; returns whether that is for ``deny`` to take back. Right when it is done again.

        Raises:
            ShimError: the kernel refuses, or another program was attached at that moment.
        """
        with self._told(rule):
            if self._unified:
                _replace_programs(self._directory, lambda program: allowing(program, rule))
                return True
            before = self._list()
            self._write("allow", rule)
            return self._list() != before

    def deny(self, rule: DeviceRule) -> None:
        """The device is again what it was before ``allow``; who has it open keeps it. Right when it is done again.

        Raises:
            ShimError: as ``allow``.
        """
        with self._told(rule):
            if self._unified:
                _replace_programs(self._directory, lambda program: denying(program, rule))
            else:
                self._write("deny", rule)

    @contextmanager
    def _told(self, rule: DeviceRule) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise from_os_error(error, f"device rule {rule}") from error

    def _list(self) -> str:
        with open(f"{self._directory}/devices.list", encoding="ascii") as file:
            return file.read()

    def _write(self, verb: str, rule: DeviceRule) -> None:
        with open(f"{self._directory}/devices.{verb}", "w", encoding="ascii") as file:
            file.write(str(rule))


def _replace_programs(cgroup: str, change: Callable[[bytes], bytes]) -> None:
    with ExitStack() as stack:
        group = stack.enter_context(OwnedFd(os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)))
        for program in bpf.attached_device_programs(group.fileno()):
            stack.enter_context(program)
            before = bpf.instructions_of(program.fileno())
            if (after := change(before)) != before:
                replacement = stack.enter_context(bpf.load_device_program(after))
                bpf.replace_device_program(group.fileno(), program.fileno(), replacement.fileno())


def allowing(program: bytes, rule: DeviceRule) -> bytes:
    """``program`` with the piece for ``rule`` before it, once."""
    return _piece(rule) + denying(program, rule)


def denying(program: bytes, rule: DeviceRule) -> bytes:
    """``program`` without the piece for ``rule``, if it has it."""
    # Pieces stand before everything else, and each is as long as every other.
    piece, start = _piece(rule), 0
    while program[start : start + _HEAD] == piece[:_HEAD]:
        if program[start : start + len(piece)] == piece:
            return program[:start] + program[start + len(piece) :]
        start += len(piece)
    return program


def _piece(rule: DeviceRule) -> bytes:
    """Returns 1 if the request is for this device and for nothing but this access; else goes on after itself."""
    refused = 7 & ~sum(_ACCESS[letter] for letter in rule.access)
    lines = [
        (_MOVE, 2, 0, 0, _MARK),
        (_LOAD_WORD, 2, _CONTEXT, _ACCESS_TYPE, 0),
        (_MOVE_REGISTER, 3, 2, 0, 0),
        (_AND, 3, 0, 0, 0xFFFF),
        (_JUMP_IF_NOT_EQUAL, 3, 0, 0, _KINDS[rule.kind]),
        (_SHIFT_RIGHT, 2, 0, 0, 16),
        (_AND, 2, 0, 0, refused),
        (_JUMP_IF_NOT_EQUAL, 2, 0, 0, 0),
        (_LOAD_WORD, 2, _CONTEXT, _MAJOR, 0),
        (_JUMP_IF_NOT_EQUAL, 2, 0, 0, rule.major),
        (_LOAD_WORD, 2, _CONTEXT, _MINOR, 0),
        (_JUMP_IF_NOT_EQUAL, 2, 0, 0, rule.minor),
        (_MOVE, 0, 0, 0, 1),
        (_EXIT, 0, 0, 0, 0),
    ]
    return b"".join(
        bpf.INSTRUCTION.pack(
            operation,
            destination | source << 4,
            # A jump is counted from the instruction after it, to the one after the piece.
            len(lines) - number - 1 if operation == _JUMP_IF_NOT_EQUAL else offset,
            immediate,
        )
        for number, (operation, destination, source, offset, immediate) in enumerate(lines)
    )


_HEAD: Final = bpf.INSTRUCTION.size
