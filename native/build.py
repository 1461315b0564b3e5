"""Describes the extension ``shim._ffi`` to cffi and setuptools (``cffi-modules`` in pyproject.toml).

API mode and the limited API: one ``shim/_ffi.abi3.so`` serves every Python from 3.11 on. Paths are relative to
the project's root, where build backends run. Warnings are errors in tests/native/test_warnings.py, not here: a
compiler newer than this text must not break an installation.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent

ffi = FFI()
ffi.cdef((HERE / "native.cdef.h").read_text(encoding="utf-8"))
ffi.set_source(
    "shim._ffi",
    '#include "native.h"',
    sources=["native/spawn.c", "native/stream.c", "native/relay.c"],
    depends=["native/native.h", "native/native.cdef.h", "native/stream.h"],
    include_dirs=["native"],
    extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden", "-pthread"],
    extra_link_args=["-pthread"],
    py_limited_api=True,
)
