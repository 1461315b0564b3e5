"""Fixtures that every folder of tests shares, and the rules about what may be left out.

Skips: a test that needs a part of the test bed which this machine lacks says so and is skipped; where ``CI=true`` that
is a failure. Tests marked ``cgroup2`` are left to the guest (``make test-guest``) on a host without v2 controllers, those
marked ``links`` on one whose kernel lacks kinds of interfaces, those marked ``criu`` or ``docker`` to the newer root
(``make test-root``) on one without a working criu or a recent Docker: they are deselected, counted in the summary, and
not skipped, since they do run.

Leaks: a test that names ``leaks`` first fails, with a list, when it leaves anything behind. Whatever a test does, its
folders are cleared of mounts before they are removed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest
from hypothesis import strategies
from support import bed, templates
from support import leaks as leak
from support.mounts import unmount_below

# grpc would make descriptors of its own anew whenever a test forks; and what forks here has no use for it afterwards.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.update([leak.MARK.split("=")])
templates.begin()

_deselected = pytest.StashKey[dict[str, int]]()

# What a marker asks of a machine, and what is said where its tests are left to another.
_ELSEWHERE = {
    "cgroup2": (bed.has_cgroup2, "this host has no cgroup v2 controllers; `make test-guest` runs them"),
    "links": (bed.has_links, "this kernel lacks kinds of interfaces; `make test-guest` runs them"),
    "docker": (bed.has_docker, "this host has no Docker since 23; `make test-root` runs them"),
    "containerd2": (bed.has_containerd2, "this host has no containerd 2; `make test-root` runs them"),
    "criu": (bed.has_criu, "no criu works on this host; `make test-root` runs them"),
}


@pytest.hookimpl(trylast=True)  # after -m and -k: what they have left out needs no probing
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not bed.is_root():
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root"))
    config.stash[_deselected] = {}
    for marker, (is_here, _) in _ELSEWHERE.items():
        elsewhere = [item for item in items if item.get_closest_marker(marker)]
        if elsewhere and not is_here():
            config.hook.pytest_deselected(items=elsewhere)
            config.stash[_deselected][marker] = len(elsewhere)
            items[:] = [item for item in items if item not in elsewhere]


def pytest_collection_finish() -> None:
    # Hypothesis makes its generator of random numbers at its first example, and asks the collector who holds it; which does
    # not tell of what is frozen (leak.begin).
    hypothesis.find(strategies.none(), lambda _: True)


def pytest_unconfigure() -> None:
    templates.end()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for marker, count in config.stash.get(_deselected, {}).items():
        terminalreporter.write_line(f"{count} {marker} tests deselected: {_ELSEWHERE[marker][1]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI a skip is a failure that tells its reason."""
    report = yield
    if report.skipped and bed.in_ci() and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr[2]}"
    return report


@pytest.fixture(params=["runc", "crun", "runsc"])
def runtime(request: pytest.FixtureRequest) -> str:
    """The name of an OCI runtime that is installed; the test runs once for each."""
    bed.need_runtime(request.param)
    return request.param


@pytest.fixture
def state_root() -> Iterator[Path]:
    """A private folder with a path short enough for unix sockets (108 bytes), under /run: tmpfs in the guest too."""
    base = "/run" if bed.is_root() else os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(tempfile.mkdtemp(prefix="ocishim-", dir=base))
    yield folder
    unmount_below(folder)
    shutil.rmtree(folder)


@pytest.fixture
def leaks(state_root: Path) -> Iterator[None]:
    """The test fails if it leaves a process, descriptor, mount, cgroup, network namespace or state file behind.

    Name it first: what is set up after it is torn down before it looks.
    """
    leak.begin()
    before = leak.snapshot(state_root)
    yield
    left = leak.left_since(before, state_root)
    leak.kill(left)
    if left:
        pytest.fail("left behind:\n" + "\n".join(f"  {item}" for item in left), pytrace=False)


class MakeBundle(Protocol):
    def __call__(self, args: list[str], *, terminal: bool = False, **changes: Any) -> Path: ...


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``: objects merge, everything else replaces, None removes."""
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict):
            result[key] = _merged(result.get(key, {}), value)
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[MakeBundle]:
    """Makes bundles: ``bundle(["sh", "-c", "exit 3"], process={"cwd": "/tmp"}) -> folder``.

    The sample root filesystem is shared and read-only, /tmp a tmpfs. ``changes`` are merged into config.json: objects
    merge, other values replace, None removes. The environment carries the mark by which ``leaks`` knows its processes.
    """
    template = json.loads((bed.CHECKOUT / "bundles" / "readonly" / "config.json").read_text())
    made: list[Path] = []

    def make(args: list[str], *, terminal: bool = False, **changes: Any) -> Path:
        folder = tmp_path / f"bundle{len(made)}"
        folder.mkdir()
        made.append(folder)
        own = {
            "process": {"args": args, "terminal": terminal, "env": [*template["process"]["env"], leak.MARK]},
            "root": {"path": str(bed.rootfs())},
            "hostname": folder.name,
        }
        config = _merged(_merged(template, own), changes)
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    yield make
    unmount_below(tmp_path)


@pytest.fixture
def open_rootfs() -> Iterator[Path]:
    """The sample root file system where everybody may go: the root of a container with users of its own is nobody here."""
    with tempfile.TemporaryDirectory(prefix="ocishim-", dir="/run") as folder:
        os.chmod(folder, 0o755)
        yield shutil.copytree(bed.rootfs(), Path(folder, "rootfs"), symlinks=True)
