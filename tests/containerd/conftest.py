"""Daemons with the sample image: one for a module of tests, or one for a test that kills it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest
from support import bed
from support.containerd import Containerd
from support.cri import KubernetesContainerd
from support.mounts import unmount_below

Daemon = TypeVar("Daemon", bound=Containerd)


@contextmanager
def _groups(name: str) -> Iterator[None]:
    """The cgroups that containers are put in, made before anything counts cgroups: runtimes never remove them."""
    tops = [bed.CGROUP] if bed.has_cgroup2() else [p for p in bed.CGROUP.iterdir() if p.is_dir()]
    made = [path for top in tops if not (path := top / name).exists()]
    for path in made:
        path.mkdir(exist_ok=True)
    yield
    for path in made:
        with suppress(OSError):  # in use by containers of somebody else
            path.rmdir()


@contextmanager
def running(disk: Path, kind: type[Daemon]) -> Iterator[Daemon]:
    bed.need(shutil.which("containerd"), "containerd is not installed: apt-get install containerd")
    folder = Path(tempfile.mkdtemp(prefix="ocd-", dir="/run"))
    folder.chmod(0o711)  # as /run/containerd is: the root of a user namespace has to get to its files
    containerd = kind(folder, disk)
    with _groups(containerd.namespace):
        try:
            containerd.start()
            containerd.import_image()
            yield containerd
        finally:
            containerd.close()
            unmount_below(folder)
            unmount_below(disk)
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    """Runs for a whole module, and has the image."""
    with running(tmp_path_factory.mktemp("containerd"), Containerd) as containerd:
        yield containerd


@pytest.fixture
def own_daemon(leaks: None, tmp_path: Path) -> Iterator[Containerd]:
    """For one test, which may kill it and start it again."""
    with running(tmp_path, Containerd) as containerd:
        yield containerd


@pytest.fixture
def run_daemon() -> Callable[[Path, type[Daemon]], AbstractContextManager[Daemon]]:
    """``with run_daemon(disk, kind) as daemon``, for a kind of daemon that one test alone has."""
    return running


@pytest.fixture
def settled(daemon: Containerd, leaks: None) -> Iterator[None]:
    """The test leaves no task, no shim, and nothing that ``leaks`` counts."""
    yield
    assert daemon.ctr("task", "list", "-q").stdout.split() == []
    bed.until(lambda: not daemon.shims(), "the shims have not ended")


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesContainerd]:
    """Serves CRI for a whole module."""
    with running(tmp_path_factory.mktemp("containerd"), KubernetesContainerd) as containerd:
        yield containerd


@pytest.fixture
def no_pods(kubernetes: KubernetesContainerd, leaks: None) -> Iterator[None]:
    """The test leaves no pod, no shim, and nothing that ``leaks`` counts."""
    yield
    left = kubernetes.pods()
    kubernetes.remove_pods()
    assert left == {}
    bed.until(lambda: not kubernetes.shims(), "the shims have not ended")


@pytest.fixture
def pod_group(leaks: None) -> Iterator[str]:
    """The cgroup of a pod, which a kubelet makes and removes."""
    name = f"pod-{os.getpid()}"
    with _groups(name):
        yield f"/{name}"
