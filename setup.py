"""The part of the build that pyproject.toml has no words for: the extension, by cffi, and its wheel's abi3 tag."""

from setuptools import setup

setup(cffi_modules=["native/build.py:ffi"], options={"bdist_wheel": {"py_limited_api": "cp311"}})
