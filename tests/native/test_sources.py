"""The C sources: no warning of any kind, and no tool but a C compiler and cffi needed to install them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "native"
WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wshadow",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wold-style-definition",
    "-Wpointer-arith",
    "-Wcast-align",
    "-Wconversion",
    "-Wformat=2",
    "-Wundef",
    "-Wwrite-strings",
    "-Wvla",
    "-Wnull-dereference",
    "-Wdouble-promotion",
    "-Wimplicit-fallthrough",
    "-Wlogical-op",
    "-Wduplicated-cond",
]


@pytest.mark.parametrize("source", sorted(path.name for path in NATIVE.glob("*.c") if path.name != "_ffi.c"))
def test_no_warnings(source, tmp_path):
    command = [
        "gcc",
        "-std=gnu11",
        "-O2",
        *WARNINGS,
        "-c",
        str(NATIVE / source),
        "-o",
        str(tmp_path / "out.o"),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.returncode == 0


def test_there_is_little_of_it():
    """The whole product has at most 1,200 lines of C (DESIGN.md, budgets)."""
    lines = sum(len(path.read_text().splitlines()) for path in NATIVE.glob("*.[ch]") if path.name != "_ffi.c")
    assert lines <= 1200


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what a build needs, without the repository around it."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copy(ROOT / "README.md", tree) if (ROOT / "README.md").exists() else (tree / "README.md").touch()
    for name in ("native", "shim"):
        shutil.copytree(
            ROOT / name, tree / name, ignore=shutil.ignore_patterns("*.so", "_ffi.c", "__pycache__")
        )
    return tree


def build(tree, kind, out):
    script = f"import sys; from setuptools import build_meta; print(build_meta.build_{kind}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(out)],
        cwd=tree,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return out / done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_wheel_from_a_source_distribution_serves_every_python(tree, tmp_path):
    with tarfile.open(build(tree, "sdist", tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = next(path for path in tmp_path.iterdir() if path.is_dir())
    wheel = build(unpacked, "wheel", tmp_path)
    assert "-cp311-abi3-linux" in wheel.name
    shutil.unpack_archive(wheel, tmp_path / "installed", "zip")
    script = "import shim._native as n, shim; print(shim.__file__, n.Relay().poll())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == f"{tmp_path}/installed/shim/__init__.py []\n"
    assert not list((tmp_path / "installed" / "shim").glob("*.c"))
