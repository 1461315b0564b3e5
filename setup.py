"""The parts of the build that pyproject.toml has no words for: the extension, by cffi, its wheel's abi3 tag, the launcher."""

import os
import shlex
import subprocess
from pathlib import Path

from setuptools import setup  # first: distutils is its own from then on

from distutils.command.build_scripts import build_scripts  # isort: skip


class BuildLauncher(build_scripts):
    """A script that is compiled; data_files would do, but editable installations leave those out."""

    def run(self) -> None:
        """Static where there is a libc for that: its start takes a tenth of a millisecond less."""
        Path(self.build_dir).mkdir(parents=True, exist_ok=True)
        target = f"{self.build_dir}/containerd-shim-ocishim-v2"
        compiler = [*shlex.split(os.environ.get("CC", "cc")), "-std=gnu11", "-Os", "-s"]
        command = [*compiler, "-o", target, *self.scripts]
        if subprocess.run([*command, "-static"], stderr=subprocess.DEVNULL, check=False).returncode:  # noqa: S603 - the compiler
            subprocess.run(command, check=True)  # noqa: S603


setup(
    cffi_modules=["native/build.py:ffi"],
    cmdclass={"build_scripts": BuildLauncher},
    scripts=["native/launcher.c"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
