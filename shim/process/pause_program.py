"""A program that waits for ever: the only process, and the only file, where a pod without a pause image has its own.

It is a static ELF file of some 200 bytes, written here as instructions: no host is sure to have a static program, and of
a pod without a pause image nothing is pulled. As the first process of the pod's pid namespace it is given the orphans
there, and ignores their ends, so that the kernel reaps them.

    rt_sigaction(SIGCHLD, {SIG_IGN}, NULL, 8)
    again: pause()           arm64 has no pause(2): ppoll(NULL, 0, NULL, NULL)
           jump again

Source: elf(5), syscall(2), sigaction(2); arm64 instructions by the Arm Architecture Reference Manual.
"""

from __future__ import annotations

import platform
import struct
from typing import NamedTuple

from shim.errors import Unimplemented

__all__ = ["pause_program"]

_FILE_HEADER, _PROGRAM_HEADER = "<16sHHIQQQIHHHHHH", "<IIQQQQQQ"
_HEADERS = struct.calcsize(_FILE_HEADER) + struct.calcsize(_PROGRAM_HEADER)
_ADDRESS = 0x400000
_EXECUTABLE, _LOADABLE, _READ_AND_EXECUTE, _PAGE = 2, 1, 5, 0x1000
# struct sigaction of the kernel: handler SIG_IGN, no flags, no restorer, no signal masked.
_IGNORE = struct.pack("<QQQQ", 1, 0, 0, 0)


class _Machine(NamedTuple):
    number: int
    """e_machine of the ELF header."""
    code: bytes
    """Finds ``_IGNORE`` right behind itself."""


_MACHINES = {
    "x86_64": _Machine(
        62,
        bytes.fromhex(
            "b80d000000"  # mov eax, 13 (rt_sigaction)
            "bf11000000"  # mov edi, 17
            "488d3513000000"  # lea rsi, [rip + 19]
            "31d2"  # xor edx, edx
            "41ba08000000"  # mov r10d, 8
            "0f05"  # syscall
            "b822000000"  # again: mov eax, 34 (pause)
            "0f05"  # syscall
            "ebf7"  # jmp again
        ),
    ),
    "aarch64": _Machine(
        183,
        struct.pack(
            "<14I",
            0xD28010C8,  # mov x8, 134 (rt_sigaction)
            0xD2800220,  # mov x0, 17
            0x10000181,  # adr x1, 48 bytes ahead
            0xD2800002,  # mov x2, 0
            0xD2800103,  # mov x3, 8
            0xD4000001,  # svc 0
            0xD2800928,  # again: mov x8, 73 (ppoll)
            0xD2800000,  # mov x0, 0
            0xD2800001,  # mov x1, 0
            0xD2800002,  # mov x2, 0
            0xD2800003,  # mov x3, 0
            0xD4000001,  # svc 0
            0x17FFFFFA,  # b again
            0xD503201F,  # nop: what follows is aligned
        ),
    ),
}


def pause_program() -> bytes:
    """The file, for this machine.

    Raises:
        Unimplemented: nobody has written it for one like this.
    """
    machine = platform.machine()
    if (known := _MACHINES.get(machine)) is None:
        raise Unimplemented(f'pods without a pause image need x86_64 or aarch64, not "{machine}"')
    body = known.code + _IGNORE
    size = _HEADERS + len(body)
    ident = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1
    entry, first_program_header = _ADDRESS + _HEADERS, struct.calcsize(_FILE_HEADER)
    file_header = struct.pack(
        _FILE_HEADER,
        *(ident, _EXECUTABLE, known.number, 1, entry, first_program_header, 0, 0),
        *(first_program_header, struct.calcsize(_PROGRAM_HEADER), 1, 0, 0, 0),
    )
    program_header = struct.pack(
        _PROGRAM_HEADER, _LOADABLE, _READ_AND_EXECUTE, 0, _ADDRESS, _ADDRESS, size, size, _PAGE
    )
    return file_header + program_header + body
