"""An image with a program in Python, made of this machine's own interpreter and packages, each at the place that it has here.

``make_python_image(folder, "support.python_plugin", {"User": "vault"})``: what the module has loaded after its import tells which
packages there must be; they are taken as a whole, since not all of a package is loaded at its import.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from support.oci_images import make_image

__all__ = ["make_python_image"]

_LOADED = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
import encodings.idna  # which ssl wants at its first name
loaded = dict(sys.modules)
tops = {loaded[name.partition(".")[0]] for name in loaded if name.partition(".")[0] in loaded}
places = [place for top in tops for place in getattr(top, "__path__", None) or [getattr(top, "__file__", None)] if place]
files = [each.__file__ for each in loaded.values() if getattr(each, "__file__", None)]
print(json.dumps([places, files]))
"""
_USED = (".py", ".so", f".{sys.implementation.cache_tag}.pyc")
_LIBRARY = re.compile(r"(/\S+) \(0x")


def make_python_image(
    folder: Path, module: str, config: Mapping[str, Any], files: Mapping[str, bytes | Path]
) -> Path:
    """The layout at ``folder``, which is made: it runs ``module``. ``config`` and ``files`` are added to what it needs."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(
        [sys.executable, "-c", _LOADED, module], env=environment, capture_output=True, check=True
    )
    places, loaded = json.loads(told.stdout)
    program = os.path.realpath(sys.executable)
    modules = {os.path.realpath(path) for place in places for path in _files(place)} | {os.__file__}
    needed = _libraries([program, *(file for file in loaded if file.endswith(".so"))])
    found = {path.lstrip("/"): Path(path) for path in [program, *sorted(modules)]}
    found |= {path.lstrip("/"): Path(os.path.realpath(path)) for path in needed}
    path = dict.fromkeys([*filter(None, sys.path), *map(os.path.dirname, places)])
    own = {"Entrypoint": [program, "-m", module], "Env": [f"PYTHONPATH={':'.join(path)}"]}
    return make_image(folder, {**found, **files}, {**own, **config}, gz=False)


def _files(place: str) -> Iterator[str]:
    """Those of a module or a package that are imported, and what they were compiled to."""
    if os.path.isfile(place):
        directory, name = os.path.split(place)
        compiled = f"{directory}/__pycache__/{name.removesuffix('.py')}{_USED[-1]}"
        yield from filter(os.path.isfile, (place, compiled))
    for directory, folders, names in os.walk(place):
        folders[:] = [name for name in folders if name not in {"test", "tests", "idle_test"}]
        yield from (f"{directory}/{name}" for name in names if name.endswith(_USED))


def _libraries(programs: Iterable[str]) -> list[str]:
    """What the dynamic loader finds for these, and itself, by the names that it looks for."""
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True)
    return sorted(set(_LIBRARY.findall(said.stdout)))
