"""Who may import whom: the layers of the design, read from the syntax trees of shim/.

A module imports lower layers, its own folder and the standard library; nothing beside it, nothing above it. Imports
inside functions and under TYPE_CHECKING count: a type is a dependency too.
"""

from __future__ import annotations

import ast
import importlib.metadata
import itertools
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]

# From the bottom. A name is a folder of shim/, or a module directly in it.
LAYERS = [
    {"errors", "log"},
    {"config"},
    {"_ffi"},  # the extension
    {"_native"},
    {"linux", "oci", "ttrpc", "proto"},
    {"process"},
    {"runtime", "cgroup", "net", "device", "stdio", "transport", "store"},
    {"task", "image"},
    {"service", "sandbox"},
    {"bootstrap"},
    {"containers"},
    {"catalog", "plugin", "grpc_api", "client"},
    {"daemon"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# shim/__init__.py holds the version alone, which everything may ask for.
EVERYWHERE = "__init__"

# Who speaks to others in messages.
PROTOCOLS = {
    "proto",
    "service",
    "transport",
    "bootstrap",
    "sandbox",
    "containers",
    "grpc_api",
    "client",
    "plugin",
    "cli",
}
# Names that only some may import; the rest of the code goes through what those offer.
RESERVED = {
    "ctypes": {"linux"},
    "fcntl": {"linux"},
    "termios": {"linux"},
    "tty": {"linux"},
    "pty": {"linux"},
    "prctl": {"linux"},
    "shim._ffi": {"_native"},
    "pyroute2": {"net"},
    "shim.proto": PROTOCOLS,
    "google.protobuf": PROTOCOLS,
    "click": {"cli"},
    "rich": {"cli"},
    "grpc": {"grpc_api", "client", "plugin"},
    "starlette": {"catalog", "daemon"},
    "uvicorn": {"daemon"},
    "prometheus_client": {"catalog"},
    "hcl2": {"catalog"},
    "cryptography": {"plugin"},
    "plyvel": {"store"},
}
# Bytes in, events or values out: no system, no clock, no concurrency, and no files.
PURE = {"oci", "ttrpc"}
IMPURE_MODULES = {
    "asyncio", "concurrent", "fcntl", "io", "multiprocessing", "os", "pathlib.Path", "select", "selectors", "shutil", "signal",
    "socket", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(p for p in (TOP / "shim").rglob("*.py") if not p.name.endswith("_pb2.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit(name: str) -> str:
    """What a dotted name belongs to: the folder or module directly below ``shim``."""
    return ([*name.split("."), EVERYWHERE])[1]


@cache
def imports(path: Path) -> frozenset[tuple[str, int]]:
    """Every name that ``path`` imports, absolute and as far as it is a module, with its line."""
    found = set()
    package = dotted(path).split(".") if path.name == "__init__.py" else dotted(path).split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found.update((resolved(source, alias.name), node.lineno) for alias in node.names)
    return frozenset(found)


def resolved(source: str, name: str) -> str:
    """``source.name``, except that of this project it is the module: what is in a module is not told apart."""
    inner = f"{source}.{name}"
    if not begins(source, "shim"):
        return inner
    place = TOP / inner.replace(".", "/")
    is_module = place.with_suffix(".py").exists() or place.is_dir() or inner == "shim._ffi"
    return inner if is_module else source


def own(path: Path) -> list[tuple[str, int]]:
    return sorted((name, line) for name, line in imports(path) if name.split(".")[0] == "shim")


def begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def test_every_folder_and_module_has_a_layer():
    assert {*(unit(dotted(p)) for p in modules()), "_ffi"} == {*LEVEL, EVERYWHERE}


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_imports_go_down_only(path):
    here = unit(dotted(path))
    level = LEVEL.get(here, -1)
    wrong = [
        f"{path.relative_to(TOP)}:{line} {here} imports {name}"
        for name, line in own(path)
        if unit(name) not in {here, EVERYWHERE} and LEVEL.get(unit(name), len(LAYERS)) >= level
    ]
    assert wrong == []


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_reserved_names_stay_in_their_folder(path):
    here = unit(dotted(path))
    wrong = [
        f"{path.relative_to(TOP)}:{line} imports {name}, which belongs to {', '.join(sorted(allowed))}"
        for name, line in sorted(imports(path))
        for reserved, allowed in RESERVED.items()
        if begins(name, reserved) and here not in allowed
    ]
    assert wrong == []


@pytest.mark.parametrize("path", [p for p in modules() if unit(dotted(p)) in PURE], ids=dotted)
def test_protocols_and_formats_are_pure(path):
    wrong = [
        f"{path.relative_to(TOP)}:{line} imports {name}"
        for name, line in sorted(imports(path))
        if any(begins(name, impure) for impure in IMPURE_MODULES)
    ]
    calls = [
        f"{path.relative_to(TOP)}:{node.lineno} calls {node.func.id}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"open", "print", "input"}
    ]
    assert wrong + calls == []


def test_no_import_cycle():
    names = {dotted(p): p for p in modules()}
    graph = {name: {i for i, _ in own(path) if i in names and i != name} for name, path in names.items()}
    while leaves := {name for name, below in graph.items() if not below}:
        graph = {name: below - leaves for name, below in graph.items() if name not in leaves}
    assert graph == {}, "these modules import each other, or hang on some that do"


def normalized(distribution: str) -> str:
    """The name as PyPA's name normalization has it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_third_party_imports_are_declared():
    """What pyproject.toml does not name is there by luck."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    declared = {normalized(re.match(r"[\w.-]+", r)[0]) for r in requirements}
    used = {name.split(".")[0] for path in modules() for name, _ in imports(path)}
    used -= {*sys.stdlib_module_names, "shim", "_typeshed"}  # the last exists for type checkers only
    providers = importlib.metadata.packages_distributions()
    undeclared = {
        name for name in used if declared.isdisjoint(map(normalized, [name, *providers.get(name, [])]))
    }
    assert undeclared == set()
