"""The storages that are here: plyvel, for one, is not made for every Python."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["STORAGES"]

STORAGES = ["filesystem", *(["leveldb"] if find_spec("plyvel") else [])]
