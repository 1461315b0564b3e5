"""Start and delete by runc's files, beside the same by runc's commands: nobody can tell which it was."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from support import bed

from shim.errors import DeadlineExceeded, FailedPrecondition, NotFound, ShimError
from shim.runtime import Driver
from shim.runtime.runc import Runc, RuncCommandLine
from shim.runtime.runc_state import RuncState

pytestmark = pytest.mark.root

SLEEP = ["sleep", "1000"]


@pytest.fixture(params=["by files", "by commands"])
def runc(request, script) -> str:
    """runc, and a script around it, of which nothing is presumed."""
    real = bed.need_runtime("runc")
    return real if request.param == "by files" else script(f'exec {real} "$@"', "runc")


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The verbs for which runc was run."""
    verbs: list[str] = []
    before = Runc._run

    async def noted(self, verb, *args, **how):
        verbs.append(verb)
        return await before(self, verb, *args, **how)

    monkeypatch.setattr(Runc, "_run", noted)
    return verbs


def groups(here, name: str) -> list[str]:
    """The cgroups of a container that are there, and its directory."""
    directory = Path(here.driver.root, name)
    state = json.loads((directory / "state.json").read_text())
    return [str(directory), *state["cgroup_paths"].values()]


def existing(paths: list[str]) -> list[str]:
    return [path for path in paths if os.path.exists(path)]


def edit(here, name: str, **changes: object) -> None:
    file = Path(here.driver.root, name, "state.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def hooked(bundle, name: str, tmp_path: Path) -> tuple[Path, Path]:
    """A bundle with a hook, and the file that the hook makes."""
    ran = tmp_path / f"{name}-ran"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat > {ran}"]}
    return bundle(["true"], hooks={name: [hook]}), ran


def test_a_life(leaks, runc, playground, bundle):
    folder = bundle(["sh", "-c", "echo out; read line < /proc/self/stat; exit 7"])

    async def body(here):
        init = await here.create("one", folder)
        left = groups(here, "one")
        assert (await here.driver.state("one"))["status"] == "created"
        await here.driver.start("one")
        assert (await init.wait()).status == 7
        assert here.out.read_text() == "out\n"
        assert (await here.driver.state("one"))["status"] == "stopped"
        await here.driver.delete("one")
        assert existing(left) == []
        with pytest.raises(NotFound):
            await here.driver.delete("one")

    playground(runc, body)


def test_what_runs_is_running_and_not_started_or_deleted_again(leaks, runc, playground, bundle):
    async def body(here):
        await here.create("one", bundle(SLEEP))
        await here.driver.start("one")
        assert (await here.driver.state("one"))["status"] == "running"
        with pytest.raises(FailedPrecondition, match="already running"):
            await here.driver.start("one")
        with pytest.raises(FailedPrecondition, match="not stopped: running"):
            await here.driver.delete("one")

    playground(runc, body)


def test_an_init_that_was_killed_is_not_started(leaks, runc, playground, bundle):
    async def body(here):
        init = await here.create("one", bundle(SLEEP))
        init.send_signal(signal.SIGKILL)
        await init.wait()
        with pytest.raises(FailedPrecondition, match="has stopped"):
            await here.driver.start("one")
        await here.driver.delete("one")

    playground(runc, body)


def test_an_init_that_is_killed_meanwhile_is_not_started(leaks, runc, playground, bundle):
    async def body(here):
        init = await here.create("one", bundle(SLEEP))
        init.send_signal(signal.SIGSTOP)
        start = asyncio.create_task(here.driver.start("one"))
        await asyncio.sleep(0)
        init.send_signal(signal.SIGKILL)
        with pytest.raises(ShimError, match=r"has stopped|already dead"):
            await start

    playground(runc, body)


def test_an_unstarted_container_is_killed_by_its_delete(leaks, runc, playground, bundle):
    async def body(here):
        init = await here.create("one", bundle(SLEEP))
        await here.driver.delete("one")
        assert (await init.wait()).status == 137

    playground(runc, body)


@pytest.mark.parametrize("name", ["poststart", "poststop", "startContainer"])
def test_hooks_run(leaks, runc, playground, bundle, tmp_path, name):
    folder, ran = hooked(bundle, name, tmp_path)
    if name == "startContainer":  # in the container, whose root is read-only
        folder = bundle(["true"], hooks={name: [{"path": "/bin/sh", "args": ["sh", "-c", "echo hook"]}]})

    async def body(here):
        init = await here.create("one", folder)
        await here.driver.start("one")
        assert (await init.wait()).status == 0
        await here.driver.delete("one")

    playground(runc, body)
    if name != "startContainer":
        assert json.loads(ran.read_text())["id"] == "one"


def test_groups_below_its_own_are_removed_too(leaks, runc, playground, bundle):
    async def body(here):
        init = await here.create("one", bundle(["true"]))
        group = next(path for path in groups(here, "one")[1:] if "cpuset" not in path)
        os.mkdir(f"{group}/below")
        await here.driver.start("one")
        await init.wait()
        left = groups(here, "one")
        await here.driver.delete("one")
        assert existing(left) == []

    playground(runc, body)


def test_a_delete_that_was_begun_is_finished(leaks, runc, playground, bundle):
    async def body(here):
        init = await here.create("one", bundle(["true"]))
        await here.driver.start("one")
        await init.wait()
        directory, *paths = groups(here, "one")
        for path in paths[::2]:
            os.rmdir(path)
        os.mkfifo(f"{directory}/of-others")
        await here.driver.delete("one")
        assert existing([directory, *paths]) == []

    playground(runc, body)


@pytest.mark.parametrize(("kind", "seen"), [(Runc, "1"), (Driver, "7")])
def test_runc_has_one_thread_for_go(run, script, monkeypatch, tmp_path, kind, seen):
    monkeypatch.setenv("GOMAXPROCS", "7")
    line = RuncCommandLine(binary=script('echo "[$GOMAXPROCS]"'), root=str(tmp_path))
    assert run(lambda reaper: kind("runc", line, reaper, timeout=20).list()) == [int(seen)]


def test_runc_is_not_run_for_either(leaks, playground, bundle, calls):
    async def body(here):
        init = await here.create("one", bundle(["true"]))
        await here.driver.start("one")
        await init.wait()
        await here.driver.delete("one")

    playground(bed.need_runtime("runc"), body)
    assert calls == ["create", "list"]


@pytest.mark.parametrize("missing", [{"cgroup_paths": None}, {"intel_rdt_path": None}])
def test_members_that_are_null_are_none(leaks, playground, bundle, calls, missing):
    async def body(here):
        init = await here.create("one", bundle(["true"]))
        _, *paths = groups(here, "one")
        await here.driver.start("one")
        await init.wait()
        edit(here, "one", **missing)
        await here.driver.delete("one")
        for path in paths:
            with suppress(FileNotFoundError):
                os.rmdir(path)

    playground(bed.need_runtime("runc"), body)
    assert calls == ["create", "list"]


@pytest.mark.parametrize(
    "changes",
    [
        {"cgroup_paths": {"pids": "/etc"}},
        {"cgroup_paths": {"pids": "/sys/fs/cgroup/../../etc"}},
        {"init_process_pid": None},
        {"config": None},
    ],
)
def test_what_is_not_understood_is_left_to_runc(tmp_path, changes):
    state = {
        "init_process_pid": 1 << 22,
        "init_process_start": 1,
        "config": {"Hooks": None},
        "cgroup_paths": {"": "/sys/fs/cgroup/none"},
    }
    file = tmp_path / "one" / "state.json"
    file.parent.mkdir()
    file.write_text(json.dumps(state))
    assert RuncState.load(str(tmp_path), "one") is not None
    file.write_text(json.dumps(state | changes))
    assert RuncState.load(str(tmp_path), "one") is None


@pytest.mark.parametrize(("content", "frozen"), [("THAWED", False), ("FROZEN", True), ("FREEZING", True)])
def test_what_is_frozen_is_left_to_runc(tmp_path, content, frozen):
    (tmp_path / "freezer.state").write_text(f"{content}\n")
    state = RuncState(tmp_path, 1 << 22, 1, {"freezer": str(tmp_path)}, frozenset(), resctrl=False)
    assert state._frozen() is frozen


def test_what_cannot_be_looked_into_is_left_to_runc(tmp_path):
    (tmp_path / "cgroup.freeze").mkdir()
    state = RuncState(tmp_path, 1 << 22, 1, {"": str(tmp_path)}, frozenset(), resctrl=False)
    assert state._frozen()
    assert not state.delete()


def test_an_init_that_does_not_come_is_given_up(leaks, playground, bundle, monkeypatch):
    async def body(here):
        init = await here.create("one", bundle(SLEEP))
        init.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(here.driver, "_timeout", 0.2)
        with pytest.raises(DeadlineExceeded, match="start one"):
            await here.driver.start("one")
        init.send_signal(signal.SIGKILL)
        await init.wait()
        monkeypatch.undo()
        with pytest.raises(FailedPrecondition, match="has stopped"):
            await here.driver.start("one")

    playground(bed.need_runtime("runc"), body)
