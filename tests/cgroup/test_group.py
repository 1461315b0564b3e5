import asyncio
import contextlib
import errno
import logging
import os
import shlex
import signal
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.cgroup import group as group_module
from shim.cgroup import limits, tree
from shim.cgroup.group import Group, clean_path
from shim.cgroup.hierarchy import Hierarchy, Mount
from shim.cgroup.limits import Write
from shim.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)

# Everything about the kernel needs cgroup v2 controllers; pure tests are at the top.
on_cgroup2 = [pytest.mark.root, pytest.mark.cgroup2, pytest.mark.usefixtures("leaks")]


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("/a/b", "/a/b"),
        ("a", "/a"),
        ("/examplelimit/", "/examplelimit"),
        ("//a///./b", "/a/b"),
        ("/a..b", "/a..b"),
    ],
)
def test_clean_paths(path, clean):
    assert clean_path(path) == clean


@pytest.mark.parametrize(
    "path", ["/../x", "..", "/a/../../x", "/a/..", "a\0b", "a\nb", "", "/", "/.", "/" + "x" * 256]
)
def test_paths_that_lead_elsewhere(path):
    with pytest.raises(InvalidArgument, match="cgroup path"):
        clean_path(path)


@given(st.text(alphabet="ab./\0\n-", max_size=12))
def test_no_path_leads_out_of_the_mount(path):
    with contextlib.suppress(InvalidArgument):
        directory = Group(Mount("/sys/fs/cgroup"), path).directory
        assert os.path.normpath(directory) == directory
        assert directory.startswith("/sys/fs/cgroup/")


def test_no_v2_hierarchy():
    with pytest.raises(FailedPrecondition, match="needs cgroup v2, and no cgroup hierarchy is mounted"):
        Group.create(Hierarchy("none"), "/a")


class TestCreate:
    pytestmark = on_cgroup2

    def test_parent_and_group_with_controllers_and_limits(self, hierarchy, parent):
        writes = limits.plan({"cpu": {"quota": 50000}, "memory": {"limit": 64 << 20}, "pids": {"limit": 10}})
        group = Group.create(hierarchy, f"{parent}/c1", limits.controllers_of(writes))
        group.apply(writes)
        assert group.path == f"{parent}/c1"
        assert _read(group, "cpu.max") == "50000 100000"
        assert _read(group, "memory.max") == str(64 << 20)
        assert _read(group, "pids.max") == "10"
        assert group.exists()
        assert not group.populated()
        assert group.pids() == []

    def test_controllers_are_enabled_down_the_chain(self, hierarchy, parent):
        group = Group.create(hierarchy, f"{parent}/a/b/c")
        assert set(_read(group, "cgroup.controllers").split()) == hierarchy.controllers
        for directory in (parent, f"{parent}/a", f"{parent}/a/b"):
            enabled = Path(hierarchy.unified.mount_point + directory, "cgroup.subtree_control").read_text()
            assert set(enabled.split()) == hierarchy.controllers

    def test_a_group_in_use_is_left_alone(self, hierarchy, parent, inside):
        group = Group.create(hierarchy, f"{parent}/c1")
        process = inside(["sleep", "100"], group.directory)
        with pytest.raises(AlreadyExists, match=f"{parent}/c1 is in use by processes {process.pid}$"):
            Group.create(hierarchy, f"{parent}/c1")
        assert group.pids() == [process.pid]

    def test_an_empty_group_is_made_anew_without_its_old_limits(self, hierarchy, parent):
        Group.create(hierarchy, f"{parent}/c1").apply(limits.plan({"memory": {"limit": 4096}}))
        assert _read(Group.create(hierarchy, f"{parent}/c1"), "memory.max") == "max"

    def test_an_empty_group_with_groups_in_it_is_not_ours(self, hierarchy, parent):
        Group.create(hierarchy, f"{parent}/c1/inner")
        with pytest.raises(FailedPrecondition, match=f"cgroup {parent}/c1 exists and cannot be made anew"):
            Group.create(hierarchy, f"{parent}/c1")

    def test_many_at_once_below_a_parent_that_nobody_made_yet(self, hierarchy, parent):
        made, start = [], threading.Barrier(8)

        def create(number):
            start.wait()
            made.append(Group.create(hierarchy, f"{parent}/deep/c{number}", {"memory"}))

        threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 8

    def test_a_parent_with_processes(self, hierarchy, parent, inside):
        holder = Group.create(hierarchy, parent)
        process = inside(["sleep", "100"], holder.directory)
        with pytest.raises(FailedPrecondition) as caught:
            Group.create(hierarchy, f"{parent}/new/c1", {"memory", "cpu"})
        expected = (
            f"cgroup {parent} holds processes of its own ({process.pid}), so controller cpu, memory cannot"
        )
        assert str(caught.value).startswith(expected)
        assert "no-internal-process" in str(caught.value)
        assert os.stat(holder.directory).st_nlink == 2, "nothing new is left"
        # The kernel would have let us enable cpu, and made the group a threaded domain.
        assert _read(holder, "cgroup.type") == "domain"

    def test_the_root_of_a_cgroup_namespace_is_a_group_like_any_other(self, hierarchy, parent, inside):
        holder = Group.create(hierarchy, parent)
        process = inside(["sleep", "100"], holder.directory)
        inner = Hierarchy("unified", Mount(holder.directory, parent), hierarchy.controllers)
        with pytest.raises(
            FailedPrecondition, match=rf"cgroup / holds processes of its own \({process.pid}\)"
        ):
            Group.create(inner, "/c1", {"memory"})

    def test_a_parent_with_processes_will_do_without_limits(self, hierarchy, parent, inside):
        holder = Group.create(hierarchy, parent)
        inside(["sleep", "100"], holder.directory)
        group = Group.create(hierarchy, f"{parent}/c1")
        inside(["sleep", "100"], group.directory)
        assert len(group.pids()) == 1

    def test_a_threaded_parent(self, hierarchy, parent):
        directory = hierarchy.unified.mount_point + parent
        os.makedirs(f"{directory}/t")
        tree.write_file(f"{directory}/t/cgroup.type", "threaded")
        for path in (f"{parent}/c1", f"{parent}/t/c1"):
            with pytest.raises(FailedPrecondition) as caught:
                Group.create(hierarchy, path, {"cpu"})
            assert str(caught.value).startswith(
                f"cgroup {parent} is threaded (cgroup.type is 'domain threaded')"
            )
        below = Hierarchy("unified", Mount(f"{directory}/t"), hierarchy.controllers)
        with pytest.raises(FailedPrecondition, match=r"cgroup / is threaded .cgroup.type is 'threaded'"):
            Group.create(below, "/c1", {"cpu"})
        assert os.stat(f"{directory}/t").st_nlink == 2, "nothing new is left"

    def test_a_controller_that_there_is_not(self, hierarchy, parent):
        with pytest.raises(
            FailedPrecondition, match=r"controller nonsense is not available in cgroup / .*cpu"
        ):
            Group.create(hierarchy, f"{parent}/c1", {"nonsense", "memory"})
        assert not Path(hierarchy.unified.mount_point + parent).exists()

    def test_a_read_only_mount(self, hierarchy, tmp_path):
        subprocess.run(["mount", "-t", "cgroup2", "none", tmp_path], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path], check=True)
        read_only = Hierarchy("unified", Mount(str(tmp_path)), hierarchy.controllers)
        try:
            with pytest.raises(FailedPrecondition, match=r"cgroup /x cannot be made: .* mounted read-only"):
                Group.create(read_only, "/x/c1")
        finally:
            subprocess.run(["umount", tmp_path], check=True)

    def test_a_parent_that_is_not_delegated(self, hierarchy, parent):
        Group.create(hierarchy, f"{parent}/c1")
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionDenied, match=f"cgroup {parent}/c2 cannot be made.*not delegated"):
                Group.create(hierarchy, f"{parent}/c2", {"memory"})
        finally:
            os.seteuid(0)

    def test_a_delegated_parent_without_a_controller(self, hierarchy, parent):
        """The user may make groups in it, but not enable a controller above it."""
        top = hierarchy.unified.mount_point + parent
        os.mkdir(top)
        for path in (top, f"{top}/cgroup.procs", f"{top}/cgroup.subtree_control"):
            os.chown(path, 65534, 65534)
        os.mkdir(f"{top}/inner")
        delegated = Hierarchy("unified", Mount(f"{top}/inner"), frozenset())
        with pytest.raises(
            FailedPrecondition, match=r"controller memory is not available in cgroup / .*: none"
        ):
            Group.create(delegated, "/c1", {"memory"})

    @pytest.mark.parametrize("name", ["cgroup.procs", "memory.max"])
    def test_the_name_of_a_control_file(self, hierarchy, parent, name):
        with pytest.raises(InvalidArgument, match="a control file has that name"):
            Group.create(hierarchy, f"{parent}/{name}")
        with pytest.raises(InvalidArgument, match="a control file has that name"):
            Group.create(hierarchy, f"{parent}/{name}/c1")
        assert not Path(hierarchy.unified.mount_point + parent).exists()

    def test_a_tree_that_may_not_grow(self, hierarchy, parent):
        group = Group.create(hierarchy, f"{parent}/c1")
        tree.write_file(f"{group.directory}/cgroup.max.depth", "0")
        with pytest.raises(ResourceExhausted, match=f"{parent}/c1/c2 cannot be made"):
            Group.create(hierarchy, f"{parent}/c1/c2")


class TestApply:
    pytestmark = on_cgroup2

    @pytest.fixture
    def group(self, hierarchy, parent):
        return Group.create(hierarchy, f"{parent}/c1", {"cpu", "memory", "pids"})

    def test_updates_in_both_directions(self, group):
        """The burst must never exceed the quota, neither the old one nor the new one."""
        for quota, burst in [(50000, 40000), (10000, 5000), (90000, 90000), (-1, 1000), (5000, 0)]:
            group.apply(limits.plan({"cpu": {"quota": quota, "burst": burst}}))
            assert _read(group, "cpu.max").split()[0] == (str(quota) if quota > 0 else "max")
            assert _read(group, "cpu.max.burst") == str(burst)

    def test_a_weight_and_idle_in_every_order(self, group):
        for cpu in ({"idle": 1}, {"idle": 1, "shares": 512}, {"idle": 0, "shares": 2048}, {"shares": 1024}):
            group.apply(limits.plan({"cpu": cpu}))
        assert _read(group, "cpu.weight") == "39"
        assert _read(group, "cpu.idle") == "0"

    def test_limits_are_lifted(self, group):
        group.apply(limits.plan({"memory": {"limit": 8192}, "pids": {"limit": 3}, "cpu": {"quota": 5000}}))
        group.apply(limits.plan({"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}}))
        assert [_read(group, name) for name in ("memory.max", "pids.max", "cpu.max")] == [
            "max",
            "max",
            "max 100000",
        ]

    @pytest.mark.parametrize("nanos", [limits.LEAST_CPU_NANOS, 1_281_280, 333_333_333, 10**9 + 1, 10**13])
    def test_the_kernel_takes_every_share(self, group, nanos):
        quota, period = limits.cpu_nanos_to_quota(nanos)
        group.apply(limits.plan({"cpu": {"quota": quota, "period": period}}))
        assert _read(group, "cpu.max") == f"{quota} {period}"

    def test_the_least_share_is_the_kernels(self, group):
        with pytest.raises(InvalidArgument):
            group.apply([Write("cpu.max", "999 1000000", "x")])

    @pytest.mark.parametrize(
        "write", [Write("memory.high", "lots", "unified.memory.high"), Write("cpu.weight", "0", "w")]
    )
    def test_a_value_that_the_kernel_refuses(self, group, write):
        with pytest.raises(InvalidArgument) as caught:
            group.apply([write])
        assert str(caught.value).startswith(f"{write.describe()}: refused for cgroup {group.path}")

    def test_a_device_that_there_is_not(self, group):
        with pytest.raises(InvalidArgument, match="no such block device"):
            group.apply(
                limits.plan({"blockIO": {"throttleReadBpsDevice": [{"major": 999, "minor": 7, "rate": 1}]}})
            )

    def test_a_controller_that_is_not_enabled(self, group):
        os.mkdir(f"{group.directory}/inner")
        inner = Group(Mount(group.mount_point), f"{group.path}/inner")
        with pytest.raises(
            FailedPrecondition, match=rf"controller memory is not enabled for .*of {group.path}\)"
        ):
            inner.apply(limits.plan({"memory": {"limit": 4096}}))

    def test_a_file_that_this_kernel_does_not_have(self, group):
        with pytest.raises(FailedPrecondition, match=r"this kernel has no memory\.nonsense"):
            group.apply([Write("memory.nonsense", "1", "unified")])

    def test_files_that_may_be_missing(self, group, caplog):
        caplog.set_level(logging.INFO)
        group.apply([Write("memory.nonsense", "0", "memory.swap", optional=True)])
        assert "memory.nonsense" in caplog.text
        group.apply([Write("memory.nonsense", "5", "x", instead=Write("memory.low", "4096", "x"))])
        assert _read(group, "memory.low") == "4096"

    def test_a_group_that_is_gone(self, group):
        group.remove(5)
        with pytest.raises(NotFound, match=f"cgroup {group.path} does not exist"):
            group.apply(limits.plan({"memory": {"limit": 4096}}))
        with pytest.raises(NotFound):
            group.gauge().read()
        assert not group.frozen()
        group.thaw()
        group.kill()

    def test_a_limit_below_what_is_used(self, group, inside):
        inside(["sleep", "100"], group.directory)
        check = {"memory": {"limit": 4096, "checkBeforeUpdate": True}}
        while not int(_read(group, "memory.current")):
            inside(["true"], group.directory)
        with pytest.raises(FailedPrecondition, match=r"memory.limit = 4096 is below what .* uses now"):
            group.apply(limits.plan(check))
        assert _read(group, "memory.max") == "max"


class TestProcesses:
    pytestmark = on_cgroup2

    @pytest.fixture
    def group(self, hierarchy, parent):
        return Group.create(hierarchy, f"{parent}/c1", {"memory"})

    def test_pids_include_groups_below(self, group, inside):
        assert group.pids() == []
        inner = Group(Mount(group.mount_point), f"{group.path}/a/b")
        os.makedirs(inner.directory)
        expected = sorted(
            inside(["sleep", "100"], directory).pid
            for directory in (group.directory, inner.directory, inner.directory)
        )
        assert group.pids() == expected
        assert group.populated()

    def test_pids_of_a_threaded_domain(self, group, inside):
        process = inside(["sleep", "100"], group.directory)
        os.mkdir(f"{group.directory}/threads")
        tree.write_file(f"{group.directory}/threads/cgroup.type", "threaded")
        tree.write_file(f"{group.directory}/threads/cgroup.threads", str(process.pid))
        assert group.pids() == [process.pid]

    def test_frozen_and_thawed(self, group, inside):
        inside(["sleep", "100"], group.directory)
        assert not group.frozen()
        group._freeze(frozen=True)
        _until(group.frozen)
        group.thaw()
        assert not group.frozen()

    @pytest.mark.parametrize("kernel", ["5.14", "before"])
    @pytest.mark.parametrize("frozen", [False, True])
    def test_kill(self, group, inside, monkeypatch, kernel, frozen):
        if kernel == "before":
            monkeypatch.setattr(group_module.tree, "write_file", _without_cgroup_kill)
        os.mkdir(f"{group.directory}/inner")
        processes = [
            inside(["sleep", "100"], group.directory),
            inside(["sleep", "100"], f"{group.directory}/inner"),
        ]
        if frozen:
            group._freeze(frozen=True)
            _until(group.frozen)
        group.kill()
        assert [process.wait(10) for process in processes] == [-signal.SIGKILL] * 2

    def test_kill_of_an_empty_group(self, group):
        group.kill()

    def test_remove_leaves_the_parent(self, group):
        group.remove(5)
        assert not group.exists()
        assert os.path.isdir(group.directory.rpartition("/")[0])
        group.remove(5)

    @pytest.mark.parametrize("kernel", ["5.14", "before"])
    def test_remove_kills_what_is_left_and_says_so(self, group, inside, caplog, monkeypatch, kernel):
        if kernel == "before":
            monkeypatch.setattr(group_module.tree, "write_file", _without_cgroup_kill)
        os.makedirs(f"{group.directory}/a/b")
        processes = [inside(["sleep", "100"], f"{group.directory}{below}") for below in ("", "/a", "/a/b")]
        group.remove(10)
        assert not group.exists()
        assert [process.wait(10) for process in processes] == [-signal.SIGKILL] * 3
        assert f"cgroup {group.path} still has processes" in caplog.text
        assert all(str(process.pid) in caplog.text for process in processes)

    def test_remove_of_a_fork_bomb(self, group, inside, fork_bomb):
        """Its processes outnumber each reading of cgroup.procs."""
        group.apply(limits.plan({"pids": {"limit": 50}}))
        inside(fork_bomb, group.directory)
        _until(lambda: len(group.pids()) > 10)
        group.remove(30)
        assert not group.exists()

    def test_remove_in_the_loop(self, group, inside):
        process = inside(["sleep", "100"], group.directory)
        asyncio.run(group.aremove(10))
        assert not group.exists()
        assert process.wait(10) == -signal.SIGKILL

    @pytest.mark.parametrize("how", ["plain", "in a loop"])
    def test_remove_gives_up(self, group, inside, monkeypatch, how):
        process = inside(["sleep", "100"], group.directory)
        monkeypatch.setattr(Group, "kill", lambda _: None)
        with pytest.raises(
            DeadlineExceeded, match=f"{group.path} is still in use by processes {process.pid}$"
        ):
            group.remove(0.05) if how == "plain" else asyncio.run(group.aremove(0.05))

    def test_remove_ends_when_the_last_process_does(self, group, inside, monkeypatch):
        """No poll interval: the kernel tells when the group is empty."""
        process = inside(["sleep", "100"], group.directory)
        monkeypatch.setattr(Group, "kill", lambda _: None)

        async def remove():
            removal = asyncio.create_task(group.aremove(30))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not removal.done()
            process.kill()
            await removal

        asyncio.run(remove())
        assert not group.exists()

    def test_a_canceled_removal_leaves_no_descriptor(self, group, inside, monkeypatch):
        inside(["sleep", "100"], group.directory)
        monkeypatch.setattr(Group, "kill", lambda _: None)

        async def cancel():
            removal = asyncio.create_task(group.aremove(30))
            for _ in range(10):
                await asyncio.sleep(0)
            removal.cancel()
            with pytest.raises(asyncio.CancelledError):
                await removal

        before = len(os.listdir("/proc/self/fd"))
        asyncio.run(cancel())
        assert len(os.listdir("/proc/self/fd")) == before

    def test_stats(self, group, inside):
        group.apply(limits.plan({"memory": {"limit": 64 << 20}, "cpu": {"quota": 5000}}))
        burner = f"while [ $(sed -n 's/^nr_throttled //p' {shlex.quote(group.directory)}/cpu.stat) -lt 2 ]; do :; done"
        assert inside(["sh", "-c", burner], group.directory).wait(60) == 0
        inside(["sleep", "100"], group.directory)
        with closing(group.gauge()) as gauge:
            found = gauge.read()
        assert found["memory"]["usage_limit"] == 64 << 20
        assert found["memory"]["max_usage"] > 0
        assert found["cpu"]["usage_usec"] > 0
        assert found["cpu"]["nr_throttled"] >= 2
        assert found["cpu"]["throttled_usec"] > 0
        assert found["pids"]["current"] == 1
        assert found["pids"]["limit"] == (1 << 64) - 1

    def test_made_and_removed_many_times(self, hierarchy, parent, inside):
        for number in range(50):
            group = Group.create(hierarchy, f"{parent}/c{number}", {"memory"})
            if number % 10 == 0:
                inside(["sleep", "100"], group.directory)
            group.remove(10)
        assert os.stat(hierarchy.unified.mount_point + parent).st_nlink == 2


def _read(group, name):
    return Path(group.directory, name).read_text().strip()


def _until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        os.sched_yield()


def _without_cgroup_kill(path, value):
    if path.endswith("/cgroup.kill"):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    _write_file(path, value)


_write_file = tree.write_file
