"""The catalog as a whole, also when many change it at once."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.storages import STORAGES

from shim.catalog import Catalog, Plugin, PluginRuntime
from shim.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unknown

SHA = "ab" * 32


def plugin(name="p1", kind="secret", version="", **members):
    return Plugin(kind, name, version, sha256=SHA, command="p", **members)


@pytest.fixture(params=STORAGES)
def catalog(request, tmp_path):
    return Catalog(request.param, str(tmp_path / "data"))


def test_empty(catalog, tmp_path):
    assert catalog.runtimes() == []
    assert catalog.plugins() == []
    with pytest.raises(NotFound) as raised:
        catalog.runtime("r1")
    assert str(raised.value) == 'failed to retrieve container plugin runtime "r1": plugin runtime not found'
    with pytest.raises(NotFound, match=r"^plugin runtime not found$"):
        catalog.delete_runtime("r1")
    with pytest.raises(NotFound, match=r"^secret plugin p1: plugin not found$"):
        catalog.plugin("secret", "p1")
    assert not catalog.delete_plugin("secret", "p1")


def test_a_registered_runtime_is_there_for_all_who_look(catalog, tmp_path):
    first = PluginRuntime(
        "r2", oci_runtime="crun", cgroup_parent="/a/", cpu_nanos=5, memory_bytes=6, rootless=True
    )
    catalog.register_runtime(first)
    catalog.register_runtime(PluginRuntime("r1"))
    assert catalog.runtimes() == [PluginRuntime("r1"), first]
    # All is replaced: what is missing is empty again.
    catalog.register_runtime(PluginRuntime("r2", cpu_nanos=7))
    assert catalog.runtime("r2") == PluginRuntime("r2", cpu_nanos=7)
    catalog.delete_runtime("r2")
    assert catalog.runtimes() == [PluginRuntime("r1")]


def test_what_cannot_be_is_not_registered(catalog):
    with pytest.raises(InvalidArgument, match="negative"):
        catalog.register_runtime(PluginRuntime("r1", cpu_nanos=-1))
    assert catalog.runtimes() == []


def test_what_is_kept_is_for_its_owner_only(tmp_path):
    before = os.umask(0)
    try:
        Catalog("filesystem", str(tmp_path / "data")).register_runtime(PluginRuntime("r1"))
    finally:
        os.umask(before)
    modes = {p.relative_to(tmp_path).as_posix(): p.stat().st_mode & 0o777 for p in tmp_path.rglob("*")}
    assert modes == {"data": 0o700, "data/catalog": 0o700, "data/catalog/all.json": 0o600}


def test_a_plugin_needs_its_runtime_and_holds_it(catalog):
    with pytest.raises(InvalidArgument) as raised:
        catalog.register_plugin(plugin(runtime="r1", oci_image="image"))
    assert str(raised.value) == (
        'failed to get configured runtime for plugin "p1": '
        'failed to retrieve container plugin runtime "r1": plugin runtime not found'
    )
    assert catalog.plugins() == []
    catalog.register_runtime(PluginRuntime("r1"))
    for name, version in (("p2", ""), ("p1", "v1.0.0"), ("p1", "v2.0.0"), ("p3", "")):
        catalog.register_plugin(plugin(name, version=version, runtime="" if name == "p3" else "r1"))
    with pytest.raises(FailedPrecondition) as refused:
        catalog.delete_runtime("r1")
    assert (
        str(refused.value) == 'unable to delete "r1" runtime. Registered plugins=[p1 p2] are referencing it.'
    )
    # A runtime that is in use may be replaced.
    catalog.register_runtime(PluginRuntime("r1", cpu_nanos=5))
    for name, version in (("p2", ""), ("p1", "v1.0.0"), ("p1", "2")):
        assert catalog.delete_plugin("secret", name, version)
    catalog.delete_runtime("r1")


def test_several_versions_of_one_plugin(catalog):
    for version in ("v1.10.0", "", "v1.9.0"):
        catalog.register_plugin(plugin(version=version))
    catalog.register_plugin(plugin("p0", "auth"))
    assert [p.version for p in catalog.plugins("secret")] == ["", "v1.9.0", "v1.10.0"]
    assert [p.name for p in catalog.plugins()] == ["p0", "p1", "p1", "p1"]
    assert catalog.plugin("secret", "p1").version == ""
    assert catalog.plugin("secret", "p1", "1.9").version == "v1.9.0"
    catalog.register_plugin(plugin(version="v1.9.0", args=("x",)))
    assert catalog.plugin("secret", "p1", "v1.9.0").args == ("x",)
    assert catalog.delete_plugin("secret", "p1")
    assert not catalog.delete_plugin("secret", "p1")
    assert [p.version for p in catalog.plugins("secret")] == ["v1.9.0", "v1.10.0"]
    with pytest.raises(
        NotFound, match=r"^secret plugin p1 v2.0.0: plugin not found; there is v1.9.0, v1.10.0$"
    ):
        catalog.plugin("secret", "p1", "v2")
    with pytest.raises(InvalidArgument, match="valid semantic version"):
        catalog.plugin("secret", "p1", "newest")


def test_which_one_is_run(catalog):
    catalog.register_plugin(plugin(version="v1.9.0"))
    catalog.register_plugin(plugin(version="v1.10.0"))
    assert catalog.plugin_to_run("", "p1").version == "v1.10.0"
    assert catalog.plugin_to_run("secret", "p1", "1.9").version == "v1.9.0"
    catalog.register_plugin(plugin())
    assert catalog.plugin_to_run("secret", "p1").version == ""
    for kind, name, version in (("auth", "p1", ""), ("", "p2", ""), ("", "p1", "v3")):
        with pytest.raises(NotFound, match="plugin not found"):
            catalog.plugin_to_run(kind, name, version)
    catalog.register_plugin(plugin(kind="auth"))
    with pytest.raises(InvalidArgument, match="p1 is there as auth and as secret; say which type"):
        catalog.plugin_to_run("", "p1")


def test_the_environment_is_kept(catalog):
    catalog.register_plugin(plugin(env=("A=1",)))
    assert catalog.plugin("secret", "p1").env == ("A=1",)


def test_a_broken_record_is_told_and_not_overwritten(tmp_path):
    catalog = Catalog("filesystem", str(tmp_path))
    catalog.register_runtime(PluginRuntime("r1"))
    record = tmp_path / "catalog" / "all.json"
    record.write_text("{")
    for call in (catalog.runtimes, lambda: catalog.register_runtime(PluginRuntime("r2"))):
        with pytest.raises(DataLoss, match="is broken"):
            call()
    assert record.read_text() == "{"


def test_a_place_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Unknown, match=r"the catalog cannot be used .*/file: File exists"):
        Catalog("filesystem", str(tmp_path / "file")).register_runtime(PluginRuntime("r1"))
    with pytest.raises(InvalidArgument, match="storage 'none'"):
        Catalog("none", str(tmp_path))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EINVAL, errno.ENOENT])
def test_what_a_disk_refuses_is_not_the_clients_fault(tmp_path, monkeypatch, number):
    """However the system says it, it is neither a wrong request nor a forbidden one."""
    catalog = Catalog("filesystem", str(tmp_path))
    catalog.register_runtime(PluginRuntime("r1"))
    real = os.open

    def refuse(path, *rest, **more):
        if str(path).endswith(".new"):
            raise OSError(number, os.strerror(number), path)
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Unknown, match=os.strerror(number)):
        catalog.register_runtime(PluginRuntime("r2"))
    monkeypatch.undo()
    assert catalog.runtimes() == [PluginRuntime("r1")]
    assert sorted(os.listdir(tmp_path / "catalog")) == ["all.json"]


# Each writes runtimes of its own and counts in one that all share: every count that was told must be there at the end.
WRITER = """
import sys
from shim.catalog import Catalog, PluginRuntime
from shim.catalog.collection import Collection
storage, root, me, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
catalog, counter = Catalog(storage, root), Collection(storage, root, "counter")
for number in range(rounds):
    catalog.register_runtime(PluginRuntime(f"{me}-{number}"))
    if number % 3 == 0:
        catalog.delete_runtime(f"{me}-{number}")
    with counter.changed() as record:
        record["n"] = record.get("n", 0) + 1
"""


@pytest.mark.parametrize("storage", STORAGES)
def test_writers_in_several_processes_lose_nothing(storage, tmp_path):
    rounds = 60 if storage == "filesystem" else 15
    command = [sys.executable, "-c", WRITER, storage, str(tmp_path)]
    writers = [subprocess.Popen([*command, f"w{me}", str(rounds)]) for me in range(4)]
    assert [writer.wait(100) for writer in writers] == [0] * 4
    names = {runtime.name for runtime in Catalog(storage, str(tmp_path)).runtimes()}
    assert names == {f"w{me}-{number}" for me in range(4) for number in range(rounds) if number % 3}
    counter = (
        json.loads(Path(tmp_path, "counter", "all.json").read_text()) if storage == "filesystem" else None
    )
    assert counter is None or counter["n"] == 4 * rounds


# One side registers the runtime and a plugin that names it, the other deletes the runtime, as fast as they can.
RACER = """
import sys
from shim.catalog import Catalog, Plugin, PluginRuntime
from shim.errors import FailedPrecondition, InvalidArgument, NotFound
catalog, side, me = Catalog("filesystem", sys.argv[1]), sys.argv[2], sys.argv[3]
done = refused = 0
for _ in range(80):
    try:
        if side == "delete":
            catalog.delete_runtime("r")
        else:
            catalog.register_plugin(Plugin("secret", me, sha256="ab" * 32, oci_image="i", runtime="r"))
        done += 1
    except (FailedPrecondition, InvalidArgument, NotFound):
        refused += 1
    if side == "register":
        record = catalog._collection.load()
        named = {plugin["runtime"] for plugin in record.get("plugins", [])}
        assert named <= record.get("runtimes", {}).keys(), record
        catalog.delete_plugin("secret", me)
        catalog.register_runtime(PluginRuntime("r"))
print(done, refused)
"""


def test_no_plugin_is_ever_without_its_runtime(tmp_path):
    Catalog("filesystem", str(tmp_path)).register_runtime(PluginRuntime("r"))
    sides = ["register", "delete", "register", "delete"]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), side, f"p{n}"], stdout=subprocess.PIPE, text=True
        )
        for n, side in enumerate(sides)
    ]
    said = [racer.communicate(timeout=100)[0].split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 4
    assert all(int(done) + int(refused) == 80 for done, refused in said)
    # Neither side had it all to itself: a race that nobody loses proves nothing.
    assert sum(int(refused) for _, refused in said) > 0
    assert sum(int(done) for done, _ in said) > 0
