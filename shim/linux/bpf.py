"""bpf(2) as far as the device rules of cgroup v2 need it: the programs attached to a group, read and replaced.

Source: bpf(2), include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import os
import struct
from ctypes import Array, addressof, c_char, c_int, c_uint, c_void_p, create_string_buffer, sizeof
from typing import Final

from shim.linux.fd import OwnedFd
from shim.linux.libc import bind_syscall, fail, get_errno

__all__ = [
    "INSTRUCTION",
    "attach_device_program",
    "attached_device_programs",
    "instructions_of",
    "load_device_program",
    "replace_device_program",
]

INSTRUCTION: Final = struct.Struct("=BBhi")
"""struct bpf_insn: operation, registers (destination below, source above), offset, immediate."""

_BPF_PROG_LOAD: Final = 5
_BPF_PROG_ATTACH: Final = 8
_BPF_PROG_GET_FD_BY_ID: Final = 13
_BPF_OBJ_GET_INFO_BY_FD: Final = 15
_BPF_PROG_QUERY: Final = 16

_BPF_PROG_TYPE_CGROUP_DEVICE: Final = 15
_BPF_CGROUP_DEVICE: Final = 6
_BPF_F_ALLOW_MULTI: Final = 2
_BPF_F_REPLACE: Final = 4
_MOST_PROGRAMS: Final = 64

# The beginnings of the members of union bpf_attr; the kernel takes what is not given for 0.
_LOAD: Final = struct.Struct("=IIQQ")
_ATTACH: Final = struct.Struct("=IIIII")
_INFO: Final = struct.Struct("=IIQ")
_QUERY: Final = struct.Struct("=IIIIQI4x")
# struct bpf_prog_info: type, id, tag, jited_prog_len, xlated_prog_len, jited_prog_insns, xlated_prog_insns.
_PROG_INFO: Final = struct.Struct("=II8sIIQQ")

_bpf = bind_syscall("bpf", 321 if os.uname().machine == "x86_64" else 280, c_int, c_void_p, c_uint)


def _call(command: int, attr: bytes) -> tuple[int, Array[c_char]]:
    buffer = create_string_buffer(attr, len(attr))
    result = _bpf(command, addressof(buffer), sizeof(buffer))
    if result < 0:
        fail(get_errno())
    return result, buffer


def attached_device_programs(cgroup_fd: int) -> list[OwnedFd]:
    """The device programs of the group itself, in the order in which they are asked; the caller owns them.

    Raises:
        OSError: EPERM, without CAP_SYS_ADMIN; EINVAL, the kernel has none.
    """
    ids = (c_uint * _MOST_PROGRAMS)()
    query = _QUERY.pack(cgroup_fd, _BPF_CGROUP_DEVICE, 0, 0, addressof(ids), _MOST_PROGRAMS)
    _, answer = _call(_BPF_PROG_QUERY, query)
    count = _QUERY.unpack(answer.raw)[5]
    found: list[OwnedFd] = []
    try:
        found.extend(
            OwnedFd(_call(_BPF_PROG_GET_FD_BY_ID, struct.pack("=III", ids[n], 0, 0))[0]) for n in range(count)
        )
    except BaseException:
        for fd in found:
            fd.close()
        raise
    return found


def instructions_of(program_fd: int) -> bytes:
    """The program, as the kernel has it after it was verified. Device programs are not rewritten by that.

    Raises:
        OSError: EPERM, this process may not see it.
    """
    size = _info(program_fd)[4]
    buffer = create_string_buffer(size)
    _info(program_fd, size, addressof(buffer))
    return buffer.raw


def _info(program_fd: int, size: int = 0, address: int = 0) -> tuple[int, ...]:
    info = create_string_buffer(_PROG_INFO.pack(0, 0, b"", 0, size, 0, address), _PROG_INFO.size)
    _call(_BPF_OBJ_GET_INFO_BY_FD, _INFO.pack(program_fd, sizeof(info), addressof(info)))
    return _PROG_INFO.unpack(info.raw)


def load_device_program(instructions: bytes) -> OwnedFd:
    """A device program, attached nowhere; the caller owns it.

    Raises:
        OSError: EINVAL or EACCES, the verifier refuses it; EPERM, without CAP_BPF.
    """
    code = create_string_buffer(instructions, len(instructions))
    license_ = create_string_buffer(b"GPL")
    attr = _LOAD.pack(
        _BPF_PROG_TYPE_CGROUP_DEVICE,
        len(instructions) // INSTRUCTION.size,
        addressof(code),
        addressof(license_),
    )
    return OwnedFd(_call(_BPF_PROG_LOAD, attr)[0])


def attach_device_program(cgroup_fd: int, program_fd: int) -> None:
    """The group has the program ``program_fd`` (not owned), after those that it has; all of them are asked.

    Raises:
        OSError: EPERM, without CAP_SYS_ADMIN, or the group has one that allows none beside it.
    """
    attr = _ATTACH.pack(cgroup_fd, program_fd, _BPF_CGROUP_DEVICE, _BPF_F_ALLOW_MULTI, 0)
    _call(_BPF_PROG_ATTACH, attr)


def replace_device_program(cgroup_fd: int, old_fd: int, new_fd: int) -> None:
    """The group has the program ``new_fd`` in the place of ``old_fd``, without a moment between. Both stay the caller's.

    Raises:
        OSError: ENOENT, ``old_fd`` is not attached there any more; EPERM, it was attached so that it cannot be replaced.
    """
    flags = _BPF_F_ALLOW_MULTI | _BPF_F_REPLACE
    _call(_BPF_PROG_ATTACH, _ATTACH.pack(cgroup_fd, new_fd, _BPF_CGROUP_DEVICE, flags, old_fd))
