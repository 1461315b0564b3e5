"""Several at once, and those that are killed: whatever happens, the store is one that can be used."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import bed
from support.oci_images import layer, make_image, make_layout

from shim.errors import NotFound
from shim.image import Images, staging

PROGRAM = "import sys; from shim.image import Images; Images(sys.argv[1]).import_(sys.argv[2], sys.argv[3])"


def importer(root: Path, layout: Path, name: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(bed.CHECKOUT)}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(root), str(layout), name], env=env)


def is_whole(root: Path) -> None:
    """Each image has all its blobs, and there are no others."""
    found = Images(root).list()
    blobs = {path.name for path in (root / "images" / "blobs" / "sha256").iterdir()}
    assert blobs == {digest[7:] for image in found for digest in image.blobs}


def test_imports_at_once(root, tmp_path):
    shared = layer({"a": os.urandom(100_000)})
    layouts = [make_layout(tmp_path / str(n), [shared], {"Cmd": [str(n)]}) for n in range(4)]
    images = Images(root)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: images.import_(layouts[n % 4], f"i{n}"), range(16)))
    assert {name for image in images.list() for name in image.names} == {f"i{n}:latest" for n in range(16)}
    assert len(images.list()) == 4
    is_whole(root)


def test_processes_at_once(root, tmp_path):
    layouts = [make_image(tmp_path / str(n), {str(n): b""}) for n in range(3)]
    running = [importer(root, layout, f"i{n}") for n, layout in enumerate(layouts)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(Images(root).list()) == 3
    is_whole(root)


def test_imports_and_removals_at_once(root, tmp_path):
    layouts = [make_image(tmp_path / str(n), {str(n): os.urandom(1000)}) for n in range(3)]
    images = Images(root)

    def turn(number: int) -> None:
        images.import_(layouts[number % 3], f"i{number}")
        images.remove(f"i{number}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(turn, range(30)))
    assert images.list() == ()
    images.import_(layouts[0])
    is_whole(root)


def test_work_that_ends_while_remains_are_looked_for(tmp_path, monkeypatch):
    """Its directory is there when it is opened, and gone, with its lock, when that is looked at."""
    work = tmp_path / ".work-1"
    work.mkdir()

    def look(path: str) -> bool:
        shutil.rmtree(path)
        return False

    monkeypatch.setattr(staging, "is_locked", look)
    staging.clear(tmp_path)
    assert not work.exists()


@pytest.mark.root
def test_a_removal_does_an_unpacking_no_harm(root, tmp_path):
    bed.need(shutil.which("umoci"), "umoci is not installed: apt-get install umoci")
    images = Images(root)
    image = images.import_(make_image(tmp_path / "l", {"a": b"x" * 100_000}))
    images.unpack(image, tmp_path / "rootfs", lambda *_: images.remove(image.id))
    assert (tmp_path / "rootfs" / "a").stat().st_size == 100_000
    assert images.list() == ()


@pytest.mark.slow
def test_whenever_it_is_killed(root, tmp_path):
    """The old record or the new one, and what is left besides goes with the next import."""
    chance = random.Random(7)
    layout = make_image(tmp_path / "l", {"a": os.urandom(4_000_000)})
    images = Images(root)
    first = images.import_(make_image(tmp_path / "first", {"f": b""}), "first")
    began = time.monotonic()
    assert importer(root, layout, "second").wait(60) == 0
    whole = time.monotonic() - began
    outcomes = set()
    for _ in range(bed.scaled(12)):
        images.remove("second") if len(images.list()) > 1 else None
        process = importer(root, layout, "second")
        threading.Event().wait(whole * chance.uniform(0.5, 1.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        names = [image.names for image in images.list()]
        assert names in ([("first:latest",)], [("second:latest",), ("first:latest",)])
        outcomes.add(len(names))
    assert images.import_(make_image(tmp_path / "third", {"t": b""}), "third")
    assert list((root / "images").glob(".work-*")) == []
    is_whole(root)
    assert images.get("first") == first


def test_remains_are_cleared_and_work_that_goes_on_is_not(root, tmp_path):
    layout = make_image(tmp_path / "l", {"a": b""})
    images = Images(root)
    images.import_(layout, "a")
    remains = root / "images" / ".work-dead"
    (remains / "layout").mkdir(parents=True)
    (remains / "layout" / "huge").write_bytes(b"x")
    seen = []

    def second(what: str, _done: int, _total: int) -> None:
        if not seen:
            seen.append(what)
            images.import_(layout, "b")

    images.import_(layout, "c", progress=second)
    assert not remains.exists()
    assert images.get("c").names == ("a:latest", "b:latest", "c:latest")


@pytest.mark.root
def test_umoci_ends_with_whoever_unpacks(root, tmp_path):
    bed.need(shutil.which("umoci"), "umoci is not installed: apt-get install umoci")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "umoci").write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid.new\nmv {tmp_path}/pid.new {tmp_path}/pid\nexec sleep 1000\n"
    )
    (programs / "umoci").chmod(0o755)
    image = Images(root).import_(make_image(tmp_path / "l", {"a": b""}))
    program = "import sys; from shim.image import Images; i = Images(sys.argv[1]); i.unpack(i.get(sys.argv[2]), sys.argv[3])"
    env = {**os.environ, "PYTHONPATH": str(bed.CHECKOUT), "PATH": f"{programs}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(root), image.id, str(tmp_path / "r")], env=env
    )
    bed.until((tmp_path / "pid").exists, "umoci was not started")
    pid = int((tmp_path / "pid").read_text())
    process.kill()
    process.wait()
    bed.until(lambda: not Path(f"/proc/{pid}").exists(), "umoci goes on")
    assert not (tmp_path / "r").exists()
    with pytest.raises(NotFound):
        Images(root).get("a")
