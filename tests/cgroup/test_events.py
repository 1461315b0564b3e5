import asyncio
import os
import sys
from collections import Counter

import pytest

from shim.cgroup import limits, tree
from shim.cgroup.events import OomWatcher
from shim.cgroup.group import Group
from shim.cgroup.hierarchy import Mount
from shim.cgroup.legacy import LegacyGroup

# tail keeps the last line of its input in memory, and this one has no end.
# Faults its memory in by itself. A system call that would have to, such as HOG's read(2), fails with EFAULT instead of
# waiting where the OOM killer is disabled.
TOUCHING_HOG = [sys.executable, "-S", "-c", "x = b'x' * (1 << 30)"]
HOG = ["tail", "/dev/zero"]
LIMIT = 8 << 20
DEADLINE_S = 30


class Heard(Counter):
    """Kills by container; ``wait`` returns when there are ``number`` of ``key``."""

    def __init__(self):
        super().__init__()
        self.changed = asyncio.Event()

    def of(self, key):
        def callback(new):
            self[key] += new
            self.changed.set()

        return callback

    async def wait(self, key, number=1):
        while self[key] < number:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), DEADLINE_S)


def run(scenario):
    """Runs ``scenario(watcher, heard)`` in a loop and counts descriptors around it."""

    async def main():
        # The first use of a loop opens descriptors of its own.
        before = len(os.listdir("/proc/self/fd"))
        watcher = OomWatcher(asyncio.get_running_loop())
        try:
            await scenario(watcher, Heard())
        finally:
            watcher.close()
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(main())


async def until(condition):
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - each turn of the loop may change it
            await asyncio.sleep(0)


def test_nothing_to_watch():
    async def scenario(watcher, heard):
        gone = Group(Mount("/sys/fs/cgroup"), "/ocishim-test-that-never-was")
        assert not watcher.add("c", gone, heard.of("c"))
        assert not watcher.add("c", LegacyGroup({"memory": "/nowhere"}), heard.of("c"))
        assert not watcher.add("c", LegacyGroup({"cpu": "/nowhere"}), heard.of("c"))
        assert len(watcher) == 0
        assert watcher.remove("c") == 0
        watcher.close()

    run(scenario)


def test_no_memory_controller_anywhere(tmp_path):
    async def scenario(watcher, heard):
        assert not watcher.add("c", Group(Mount(str(tmp_path)), "/pod/c1"), heard.of("c"))

    (tmp_path / "pod" / "c1").mkdir(parents=True)
    run(scenario)


@pytest.mark.root
@pytest.mark.cgroup2
@pytest.mark.usefixtures("leaks")
class TestUnified:
    @pytest.fixture
    def make(self, hierarchy, parent):
        def make(name, limit=LIMIT):
            group = Group.create(hierarchy, f"{parent}/{name}", {"memory"})
            group.apply(limits.plan({"memory": {"limit": limit, "swap": limit}}))
            return group

        return make

    def test_a_kill_is_heard_and_counted(self, make, inside):
        async def scenario(watcher, heard):
            group = make("c1")
            assert watcher.add("c1", group, heard.of("c1"))
            assert inside(HOG, group.directory).wait(DEADLINE_S) == -9
            await heard.wait("c1")
            assert inside(HOG, group.directory).wait(DEADLINE_S) == -9
            await heard.wait("c1", 2)
            assert watcher.remove("c1") == 2
            assert len(watcher) == 0

        run(scenario)

    def test_the_last_reading_needs_no_turn_of_the_loop(self, make, inside):
        """The order of the world: the process ends, its exit is about to be published, was it an OOM?"""

        async def scenario(watcher, heard):
            group = make("c1")
            watcher.add("c1", group, heard.of("c1"))
            assert inside(HOG, group.directory).wait(DEADLINE_S) == -9
            assert watcher.remove("c1") == 1
            await asyncio.sleep(0)
            assert not heard

        run(scenario)

    def test_only_the_container_that_was_hit_hears(self, make, inside):
        async def scenario(watcher, heard):
            groups = {name: make(name) for name in ("c1", "c2", "c3")}
            for name, group in groups.items():
                watcher.add(name, group, heard.of(name))
            assert inside(HOG, groups["c2"].directory).wait(DEADLINE_S) == -9
            await heard.wait("c2")
            assert [watcher.remove(name) for name in groups] == [0, 1, 0]
            assert heard == {"c2": 1}

        run(scenario)

    def test_a_limit_of_the_pod_counts_in_the_container(self, make, hierarchy, parent, inside):
        async def scenario(watcher, heard):
            group, neighbour = make("pod/c1", -1), make("pod/c2", -1)
            Group(hierarchy.unified, f"{parent}/pod").apply(
                limits.plan({"memory": {"limit": LIMIT, "swap": LIMIT}})
            )
            watcher.add("c1", group, heard.of("c1"))
            watcher.add("c2", neighbour, heard.of("c2"))
            assert inside(HOG, group.directory).wait(DEADLINE_S) == -9
            await heard.wait("c1")
            assert watcher.remove("c2") == 0

        run(scenario)

    def test_a_kill_in_a_group_below_counts(self, make, inside):
        async def scenario(watcher, heard):
            group = make("c1")
            os.mkdir(f"{group.directory}/inner")
            watcher.add("c1", group, heard.of("c1"))
            assert inside(HOG, f"{group.directory}/inner").wait(DEADLINE_S) == -9
            await heard.wait("c1")

        run(scenario)

    def test_without_the_controller_the_group_above_counts(self, make, inside):
        async def scenario(watcher, heard):
            pod = make("pod")
            os.mkdir(f"{pod.directory}/c1")
            group = Group(Mount(pod.mount_point), f"{pod.path}/c1")
            assert watcher.add("c1", group, heard.of("c1"))
            assert inside(HOG, group.directory).wait(DEADLINE_S) == -9
            await heard.wait("c1")
            assert watcher.remove("c1") == 1

        run(scenario)

    def test_kills_of_before_do_not_count(self, make, inside):
        async def scenario(watcher, heard):
            group = make("c1")
            assert inside(HOG, group.directory).wait(DEADLINE_S) == -9
            watcher.add("c1", group, heard.of("c1"))
            assert watcher.remove("c1") == 0

        run(scenario)

    def test_a_group_that_is_removed_keeps_the_last_number_and_the_loop_quiet(self, make, inside):
        async def scenario(watcher, heard):
            group = make("c1")
            watcher.add("c1", group, heard.of("c1"))
            assert inside(HOG, group.directory).wait(DEADLINE_S) == -9
            await heard.wait("c1")
            group.remove(10)
            wakes = 0
            original = watcher._look

            def counted(watch):
                nonlocal wakes
                wakes += 1
                original(watch)

            watcher._look = counted
            for _ in range(50):
                await asyncio.sleep(0)
            assert wakes <= 1, "the dead file keeps the loop busy"
            assert watcher.remove("c1") == 1

        run(scenario)

    def test_a_callback_may_remove_and_add(self, make, inside):
        async def scenario(watcher, heard):
            groups = {name: make(name) for name in ("c1", "c2")}
            totals = {}

            def callback(name):
                def kill_all_watches(_):
                    for key in list(watcher._watches):
                        totals[key] = watcher.remove(key)
                    heard.changed.set()

                return kill_all_watches

            for name, group in groups.items():
                watcher.add(name, group, callback(name))
                with pytest.raises(ValueError, match="watched already"):
                    watcher.add(name, group, callback(name))
            for group in groups.values():
                assert inside(HOG, group.directory).wait(DEADLINE_S) == -9
            await asyncio.wait_for(heard.changed.wait(), DEADLINE_S)
            assert totals == {"c1": 1, "c2": 1}

        run(scenario)

    def test_many_containers_are_one_watcher(self, make):
        async def scenario(watcher, heard):
            for number in range(40):
                watcher.add(str(number), make(f"c{number}"), heard.of(number))
            opened = len(os.listdir("/proc/self/fd"))
            for number in range(40):
                watcher.remove(str(number))
            assert opened - len(os.listdir("/proc/self/fd")) == 40

        run(scenario)


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
class TestLegacy:
    @pytest.fixture
    def make(self, legacy_group):
        def make(below=None, limit=LIMIT):
            group = legacy_group(below)
            if limit:
                tree.write_file(f"{group.directories['memory']}/memory.limit_in_bytes", str(limit))
            return group

        return make

    def test_a_kill_is_heard_and_counted(self, make, inside):
        async def scenario(watcher, heard):
            group = make()
            assert watcher.add("c1", group, heard.of("c1"))
            for number in (1, 2):
                assert inside(HOG, *group.directories.values()).wait(DEADLINE_S) == -9
                await heard.wait("c1", number)
            assert watcher.remove("c1") == 2

        run(scenario)

    def test_the_last_reading_needs_no_turn_of_the_loop(self, make, inside):
        async def scenario(watcher, heard):
            group = make()
            watcher.add("c1", group, heard.of("c1"))
            assert inside(HOG, *group.directories.values()).wait(DEADLINE_S) == -9
            assert watcher.remove("c1") == 1

        run(scenario)

    def test_neighbours_below_the_limit_that_ran_out_hear_nothing(self, make, inside):
        """The eventfds of all groups below fire."""

        async def scenario(watcher, heard):
            pod = make()
            group, neighbour = make(pod, limit=None), make(pod, limit=None)
            watcher.add("c1", group, heard.of("c1"))
            watcher.add("c2", neighbour, heard.of("c2"))
            assert inside(HOG, *group.directories.values()).wait(DEADLINE_S) == -9
            await heard.wait("c1")
            assert watcher.remove("c2") == 0
            assert heard == {"c1": 1}

        run(scenario)

    def test_a_disabled_killer_is_looked_after_for_a_while(self, make, inside):
        """Out of memory without a kill: the watcher looks a few times, and hears of the kill that comes later."""

        async def scenario(watcher, heard):
            group = make()
            control = f"{group.directories['memory']}/memory.oom_control"
            tree.write_file(control, "1")
            watcher.add("c1", group, heard.of("c1"))
            process = inside(TOUCHING_HOG, *group.directories.values())
            watch = watcher._watches["c1"]
            await until(lambda: watch.looks)
            assert not heard
            tree.write_file(control, "0")
            # With the killer enabled again, the next allocation is what kills.
            tree.write_file(f"{group.directories['memory']}/memory.limit_in_bytes", str(LIMIT * 2))
            assert process.wait(DEADLINE_S) == -9
            assert watcher.remove("c1") == 1

        run(scenario)

    def test_a_group_that_is_removed(self, make, inside):
        async def scenario(watcher, heard):
            group = make()
            watcher.add("c1", group, heard.of("c1"))
            assert inside(HOG, *group.directories.values()).wait(DEADLINE_S) == -9
            await heard.wait("c1")
            for directory in set(group.directories.values()):
                os.rmdir(directory)
            # The removal itself fires the eventfd.
            await until(lambda: not watcher._polled)
            assert watcher.remove("c1") == 1
            assert heard == {"c1": 1}

        run(scenario)
