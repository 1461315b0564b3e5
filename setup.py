"""The parts of the build that pyproject.toml has no words for: the extension, by cffi, its wheel's abi3 tag, the launcher."""

import os
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path

from setuptools import setup  # first: distutils is its own from then on

from distutils.command.build_scripts import build_scripts  # isort: skip


class BuildLauncher(build_scripts):
    """A script that is compiled; data_files would do, but editable installations leave those out."""

    def run(self) -> None:
        """With musl if that is there, else static, else as it comes.

        glibc asks the processor for its features at each start, which in a guest takes 0.5 ms.
        """
        Path(self.build_dir).mkdir(parents=True, exist_ok=True)
        rest = [
            "-std=gnu11",
            "-Os",
            "-s",
            "-o",
            f"{self.build_dir}/containerd-shim-ocishim-v2",
            *self.scripts,
        ]
        compiler = [*shlex.split(os.environ.get("CC", "cc")), *rest]
        for command in (["musl-gcc", "-static", *rest], [*compiler, "-static"]):
            with suppress(FileNotFoundError):
                if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0:  # noqa: S603
                    return
        subprocess.run(compiler, check=True)  # noqa: S603 - the compiler


setup(
    cffi_modules=["native/build.py:ffi"],
    cmdclass={"build_scripts": BuildLauncher},
    scripts=["native/launcher.c"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
