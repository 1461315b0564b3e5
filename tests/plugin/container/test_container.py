"""Plugins in containers of real runtimes, from their start to their end, and what is left when that comes early."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support import bed
from support.coroutines import until
from support.plugin_containers import FOREVER, IMAGE

from shim.errors import FailedPrecondition, InvalidArgument, NotFound, ShimError, Unavailable
from shim.image import Images
from shim.net import pin
from shim.plugin import EndpointSettings
from shim.plugin.container.attached import AttachedContainer
from shim.plugin.container.home import Home
from shim.sandbox import fetch_sandbox

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

TRAP = "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.01; done"
HOMES = "plugin-containers"


async def read(stream: asyncio.StreamReader) -> str:
    return (await stream.read()).decode()


@pytest.mark.parametrize("runtime", ["runc", "crun", "runsc"])
async def test_a_life(plugin, socket_dir, runtime):
    """It says where it is, is waited for by two, and is asked to end."""
    script = (
        f'echo "$FROM $OWN $COOKIE $PLUGIN_UNIX_SOCKET_DIR $TMPDIR"; echo log >&2; echo x > $TMPDIR/x; {TRAP}'
    )
    env = {"COOKIE": "c", "TMPDIR": str(socket_dir), "PLUGIN_UNIX_SOCKET_DIR": str(socket_dir)}
    runner = plugin(script, env=env, runtime=runtime)
    assert (runner.name, runner.id.partition("-")[0]) == (IMAGE, "plugin")
    await runner.start()
    mount = "/tmp/go-plugin-container"
    assert await runner.stdout.readline() == f"image  c {mount} {mount}\n".encode()
    assert await runner.stderr.readline() == b"log\n"
    assert await runner.stdout.readline() == b"up\n"
    assert (socket_dir / "x").read_text() == "x\n"
    waiting = [asyncio.ensure_future(runner.wait()) for _ in range(2)]
    await runner.kill()
    assert [await each for each in waiting] == [5, 5]
    assert await runner.stdout.read() == b"bye\n"
    await runner.kill()
    assert await runner.wait() == 5


@pytest.mark.parametrize("runtime", ["runc", "runsc"])
async def test_it_ends_by_itself(plugin, settings, socket_dir, runtime):
    """Then it is gone without anybody's doing, and what it said can still be read."""
    runner = plugin("echo out; echo err >&2; exit 3", runtime=runtime)
    await runner.start()
    assert await runner.wait() == 3
    assert os.listdir(Path(settings.data_root, HOMES)) == []
    with pytest.raises(NotFound, match=f"container with ID {runner.id} not found"):
        await AttachedContainer.attach(runner.id, str(socket_dir), settings)
    assert (await read(runner.stdout), await read(runner.stderr)) == ("out\n", "err\n")


async def test_one_that_does_not_want_to_end(plugin):
    runner = plugin("trap '' TERM; echo up; while :; do sleep 0.01; done")
    await runner.start()
    await runner.stdout.readline()
    await asyncio.gather(runner.kill(), runner.kill())
    assert await runner.wait() == 128 + signal.SIGKILL


STATUS = "id -u; id -g; id -G; grep -E '^(Cap|NoNew)' /proc/self/status; echo; "


@pytest.mark.parametrize("runtime", ["runc", "runsc"])
async def test_it_may_nothing_but_what_is_asked_for(plugin, runtime):
    plain = plugin(STATUS + FOREVER, runtime=runtime, group_add=4242)
    more = plugin(STATUS + FOREVER, runtime=runtime, group_add=4242, rootless=True, cap_ipc_lock=True)
    dac_override_and_ipc_lock = 1 << 1 | 1 << 14
    for runner, mask in ((plain, 0), (more, dac_override_and_ipc_lock)):
        await runner.start()
        uid, gid, groups, *said = (await runner.stdout.readuntil(b"\n\n")).decode().split("\n")
        found = dict(line.split(":\t") for line in said if line)
        assert (uid, gid) == ("0", "0")
        assert "4242" in groups.split()
        assert {name: int(found[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == {
            "CapPrm": mask, "CapEff": mask, "CapBnd": mask,
        }  # fmt: skip
        assert found.get("NoNewPrivs", "1" if mask == 0 else "0") == ("1" if mask == 0 else "0")
        await runner.kill()


async def test_sockets_of_others_are_ours_to_write(plugin, socket_dir):
    runner = plugin(
        "umask 077; echo > /tmp/go-plugin-container/s; echo up; " + FOREVER, group_add=1, rootless=True
    )
    await runner.start()
    await runner.stdout.readline()
    assert os.getxattr(socket_dir / "s", "system.posix_acl_access")
    assert (socket_dir / "s").stat().st_mode & 0o777 == 0o660
    await runner.kill()


async def test_the_root_is_its_own(plugin):
    """It can be written, and nobody else sees it, the next one of the image neither."""
    for _ in range(2):
        runner = plugin(
            "ls / | grep -c mark; echo > /mark; cat /etc/resolv.conf >/dev/null && hostname",
            disable_network=True,
        )
        await runner.start()
        assert await read(runner.stdout) == f"0\n{runner.id}\n"
        assert await runner.wait() == 0
        assert await read(runner.stderr) == ""


@pytest.mark.parametrize("runtime", ["runc", "runsc"])
async def test_networks_of_none_and_of_the_host(plugin, runtime):
    ours = sorted(os.listdir("/sys/class/net"))
    script = "grep -o '[a-z0-9]*:' /proc/net/dev | tr -d : | sort | tr '\\n' ' '"
    for members, expected in (({"disable_network": True}, ["lo"]), ({}, ours)):
        runner = plugin(script, runtime=runtime, **members)
        await runner.start()
        assert (await read(runner.stdout)).split() == expected
        await runner.wait()


@pytest.fixture
def bridge():
    name = "ocishim-plug0"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    subprocess.run(["ip", "address", "add", "10.95.7.1/24", "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True)


@pytest.fixture
def networks(bridge, tmp_path, monkeypatch):
    file = tmp_path / "config.toml"
    file.write_text(
        f'[networks.plugins]\nbridge = "{bridge}"\nsubnet = "10.95.7.0/24"\ngateway = "10.95.7.1"\nmtu = 1400\n'
    )
    monkeypatch.setenv("OCISHIM_CONFIG", str(file))


async def test_a_named_network(plugin, networks, state_root):
    """Two plugins have addresses of it, and reach the host; the addresses are free again at the end."""
    endpoints = {"plugins": EndpointSettings(mac_address="02:00:00:00:07:02")}
    first = plugin("ip -o -4 address show dev eth0; ip route; " + FOREVER, endpoints_config=endpoints)
    await first.start()
    assert b"10.95.7.2/24" in await first.stdout.readline()
    assert await first.stdout.readline() == b"default via 10.95.7.1 dev eth0 \n"

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(writer.get_extra_info("peername")[0]).encode())
        writer.close()

    async with await asyncio.start_server(greet, "10.95.7.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        script = f"cat /sys/class/net/eth0/mtu; nc 10.95.7.1 {port} </dev/null"
        second = plugin(script, endpoints_config={"plugins": EndpointSettings("10.95.7.9")})
        await second.start()
        assert await read(second.stdout) == "1400\n10.95.7.9"
    taken = plugin(endpoints_config={"plugins": EndpointSettings("10.95.7.2")})
    with pytest.raises(FailedPrecondition, match=first.id):
        await taken.start()
    await second.kill()
    await first.kill()
    assert list((state_root / "networks").iterdir()) == []


LIMITS = {"nano_cpus": 250_000_000, "memory": 256 << 20}


def limits(parent: str, plugin_id: str) -> list[dict[str, str]]:
    """The files of limits of the groups below ``parent`` in which processes of the plugin are."""
    names = {"cpu.max", "memory.max", "cpu.cfs_quota_us", "cpu.cfs_period_us", "memory.limit_in_bytes"}
    groups = [path.parent for path in Path("/sys/fs/cgroup").glob(f"**{parent}/{plugin_id}/*/cgroup.procs")]
    found = [
        {path.name: path.read_text().strip() for path in group.iterdir() if path.name in names}
        for group in groups
        if (group / "cgroup.procs").read_text()
    ]
    return [each for each in found if each]


@pytest.mark.cgroup2
@pytest.mark.parametrize("runtime", ["runc", "crun"])
async def test_its_limits_are_in_force(plugin, parent, runtime):
    runner = plugin(runtime=runtime, **LIMITS)
    await runner.start()
    assert limits(parent, runner.id) == [{"cpu.max": "25000 100000", "memory.max": str(256 << 20)}]
    await runner.kill()


@pytest.mark.skipif(bed.has_cgroup2(), reason="this is for hosts with v1 controllers")
@pytest.mark.parametrize("runtime", ["runc", "runsc"])
async def test_its_limits_where_the_runtime_sets_them(plugin, parent, runtime):
    runner = plugin(runtime=runtime, **{**LIMITS, "cgroup_parent": f"{parent.lstrip('/')}/"})
    await runner.start()
    found = {key: value for each in limits(parent, runner.id) for key, value in each.items()}
    assert found == {
        "cpu.cfs_quota_us": "25000", "cpu.cfs_period_us": "100000", "memory.limit_in_bytes": str(256 << 20)
    }  # fmt: skip
    await runner.kill()


FAILURES = {
    "an image that is not there": ({"tag": "2"}, NotFound, "ocishim.test/plugin:2"),
    "another digest": ({"sha256": "0" * 64}, FailedPrecondition, "SHA256 mismatch"),
    "no image of that name has it": ({"image": "other", "sha256": "0" * 64}, FailedPrecondition, "SHA256 mismatch"),
    "a runtime that is not there": ({"runtime": "no-such-runtime"}, NotFound, "no-such-runtime"),
    "a network that is not there": (
        {"endpoints_config": {"n": EndpointSettings()}}, NotFound, r"network 'n'.*\[networks.NAME\]"
    ),
    "a command that is not there": ({"entrypoint": ["/no-such-command"]}, ShimError, "no-such-command"),
    "a command that is none": ({"entrypoint": ["/etc/passwd"]}, ShimError, "/etc/passwd"),
}  # fmt: skip


@pytest.mark.parametrize(("members", "kind", "says"), FAILURES.values(), ids=FAILURES)
async def test_what_cannot_be_started_leaves_nothing(plugin, settings, members, kind, says):
    runner = plugin(**members)
    with pytest.raises(kind, match=says) as caught:
        await runner.start()
    assert "\n" not in str(caught.value).strip()
    assert HOMES not in os.listdir(settings.data_root) or os.listdir(f"{settings.data_root}/{HOMES}") == []
    with pytest.raises(FailedPrecondition, match="has not been started"):
        await runner.wait()
    await runner.kill()


async def test_the_digest_that_it_has(plugin, settings):
    (image,) = Images(settings.data_root).list()
    for digest in (image.id, image.manifest_digest.removeprefix("sha256:")):
        runner = plugin("echo ran", sha256=digest, tag="")
        await runner.start()
        assert await read(runner.stdout) == "ran\n"
        await runner.wait()


async def test_a_socket_folder_that_is_not_there(plugin, socket_dir):
    socket_dir.rmdir()
    with pytest.raises(ShimError, match="sockets"):
        await plugin().start()


async def test_debugged(plugin, settings):
    """It is kept until it is killed, and all that may explain it is told."""
    runner = plugin("echo out; echo err >&2; exit 1", env={"SECRET": "s"}, debug=True)
    assert "not started" in runner.diagnose()
    await runner.start()
    assert (await read(runner.stdout), await read(runner.stderr)) == ("out\n", "err\n")
    assert await runner.wait() == 1
    assert os.listdir(Path(settings.data_root, HOMES)) == [runner.id]
    async with await fetch_sandbox(runner.id, state_root=settings.state_root) as sandbox:
        assert sandbox.config.annotations["ocishim.plugin.image"] == f"{IMAGE}:1"
    said = runner.diagnose().splitlines()
    for line in (f"Image ref: {IMAGE}:1", "Runtime: runc", "  SECRET=s", "  out", "  err"):
        assert line in said
    assert any(line.startswith("Container: exited 1 (") for line in said)
    await runner.kill()


async def test_output_that_nobody_reads_holds_up_nothing_but_the_plugin(plugin):
    runner = plugin("yes", debug=True)
    await runner.start()
    assert await runner.stdout.readline() == b"y\n"
    await runner.kill()
    assert await runner.wait() == 128 + signal.SIGKILL
    assert len(await runner.stdout.read()) < 4 << 20


async def test_not_debugged_it_keeps_secrets(plugin):
    runner = plugin("exit 2", env={"SECRET": "s"})
    await runner.start()
    assert "running" in runner.diagnose()
    await runner.wait()
    assert "SECRET" not in runner.diagnose()
    assert "exited 2" in runner.diagnose()
    assert "C library" in runner.diagnose()


def shim_of(plugin_id: str) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if plugin_id.encode() in words and b"--socket" in words:
                return int(folder.name)
    raise AssertionError(plugin_id)


async def test_its_shim_dies(plugin):
    runner = plugin()
    await runner.start()
    os.kill(shim_of(runner.id), signal.SIGKILL)
    with pytest.raises(Unavailable, match=f"nobody knows how plugin container {runner.id} ended"):
        await runner.wait()
    await runner.kill()


def test_paths_are_translated(plugin, socket_dir):
    runner = plugin()
    assert runner.plugin_to_host("unix", "/tmp/go-plugin-container/p1") == ("unix", f"{socket_dir}/p1")
    assert runner.host_to_plugin("unix", f"{socket_dir}/p1") == ("unix", "/tmp/go-plugin-container/p1")


@pytest.mark.parametrize(
    "address",
    ["/tmp/p1", "127.0.0.1:1234", "/tmp/go-plugin-container/x/../../p", "/tmp/go-plugin-container/.."],
)
def test_paths_that_lead_elsewhere(plugin, address):
    with pytest.raises(InvalidArgument, match="go-plugin"):
        plugin().plugin_to_host("unix", address)
    with pytest.raises(InvalidArgument, match="host and plugin share"):
        plugin().host_to_plugin("unix", address)


STARTER = """
import asyncio, json, sys
from shim.config import Config as Settings
from shim.image import Images
from shim.net import pin
from shim.plugin import Config, PluginContainer

async def main():
    config, settings, sockets = json.loads(sys.argv[1])
    runner = PluginContainer(Config(**config), {}, sockets, Settings(**settings))
    await runner.start()
    print(runner.id, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def started_elsewhere(
    settings, parent: str, socket_dir: Path, **members
) -> tuple[asyncio.subprocess.Process, str]:
    """A process that has started a plugin, and the plugin's id."""
    config = {"image": IMAGE, "cgroup_parent": parent, "tag": "1", **members}
    where = {"state_root": settings.state_root, "data_root": settings.data_root}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER, json.dumps([config, where, str(socket_dir)]), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    return process, (await process.stdout.readline()).decode().strip()


async def test_it_is_found_by_another_process(settings, parent, socket_dir):
    trap = TRAP.replace("echo up", "echo up > /tmp/go-plugin-container/up")
    owner, plugin_id = await started_elsewhere(settings, parent, socket_dir, args=[trap])
    # runc, until it is the plugin, takes a SIGTERM for itself.
    await until((socket_dir / "up").exists)
    attached = await AttachedContainer.attach(plugin_id, str(socket_dir), settings)
    assert attached.id == plugin_id
    assert attached.plugin_to_host("unix", "/tmp/go-plugin-container/p")[1] == f"{socket_dir}/p"
    owner.kill()
    await owner.wait()
    waiting = asyncio.ensure_future(attached.wait())
    again = await AttachedContainer.attach(plugin_id, str(socket_dir), settings)
    await again.kill()
    assert await waiting == 5


async def test_who_lets_go_leaves_it_running(plugin, settings, socket_dir):
    runner = plugin()
    await runner.start()
    runner.release()
    attached = await AttachedContainer.attach(runner.id, str(socket_dir), settings)
    attached.release()
    await (await AttachedContainer.attach(runner.id, str(socket_dir), settings)).kill()


async def test_a_killed_host_leaves_a_plugin_until_that_ends(plugin, settings, parent, socket_dir):
    """It goes on; once it is stopped, whoever starts the next one clears away what is left of it."""
    owner, plugin_id = await started_elsewhere(settings, parent, socket_dir, args=[FOREVER])
    owner.kill()
    await owner.wait()
    homes = Path(settings.data_root, HOMES)
    other = plugin("exit 0")
    await other.start()
    await other.wait()
    assert os.listdir(homes) == [plugin_id]
    async with await fetch_sandbox(plugin_id, state_root=settings.state_root) as sandbox:
        await sandbox.stop()
        await sandbox.delete()
    assert os.listdir(homes) == [plugin_id]
    other = plugin("exit 0")
    await other.start()
    await other.wait()
    assert os.listdir(homes) == []


def slow_runc(folder: Path) -> Path:
    """A runc whose create says that it was called, and waits until it may go on."""
    slow = folder / "runc-slow"
    wait = f"touch {folder}/reached; while [ ! -e {folder}/go ]; do sleep 0.01; done"
    slow.write_text(f'#!/bin/sh\ncase " $* " in *" create "*) {wait};; esac\nexec runc "$@"\n')
    slow.chmod(0o755)
    return slow


async def test_a_host_that_is_killed_while_it_starts_one(
    plugin, settings, parent, socket_dir, tmp_path, monkeypatch
):
    """The runtime goes on making the container; what comes of it is cleared away, too."""
    config = {"image": IMAGE, "cgroup_parent": parent, "tag": "1", "runtime": str(slow_runc(tmp_path))}
    where = {"state_root": settings.state_root, "data_root": settings.data_root}
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STARTER, json.dumps([config, where, str(socket_dir)])
    )
    await until((tmp_path / "reached").exists)
    owner.kill()
    await owner.wait()
    sleep = asyncio.sleep

    async def go(delay: float) -> None:
        (tmp_path / "go").touch()
        await sleep(delay)

    monkeypatch.setattr("shim.plugin.container.remains.asyncio.sleep", go)
    other = plugin("exit 0")
    await other.start()
    await other.wait()
    assert (tmp_path / "go").exists()
    assert os.listdir(Path(settings.data_root, HOMES)) == []


def disown(home: Home) -> None:
    """Whoever made it is gone."""
    record = home.path / "record.json"
    record.write_text(record.read_text().replace(f'"owner_pid": {os.getpid()}', '"owner_pid": 4194305'))


async def test_those_of_another_state_root_are_not_ours_to_clear_away(plugin, settings):
    theirs = Home(settings.data_root, "plugin-theirs")
    theirs.claim("image", "sha256:x", "/run/other")
    disown(theirs)
    broken = Home(settings.data_root, "plugin-broken")
    broken.claim("image", "sha256:x", settings.state_root)
    (broken.path / "record.json").write_text("{")
    half_removed = theirs.path.with_name(".plugin-gone")
    half_removed.mkdir()
    other = plugin("exit 0")
    await other.start()
    await other.wait()
    assert os.listdir(theirs.path.parent) == ["plugin-theirs"]
    theirs.remove()
    theirs.remove()


async def test_what_is_left_of_a_start_that_was_killed_before_there_was_a_record(
    plugin, settings, state_root
):
    home = Home(settings.data_root, "plugin-half")
    home.claim("image", "sha256:x", str(state_root))
    disown(home)
    sandbox = state_root / "sandboxes" / "plugin-half"
    sandbox.mkdir(parents=True)
    pin(str(sandbox / "netns"))
    other = plugin("exit 0")
    await other.start()
    await other.wait()
    assert (os.listdir(home.path.parent), os.listdir(sandbox.parent)) == ([], [])


async def test_its_start_is_given_up(plugin, settings, tmp_path):
    runner = plugin(runtime=str(slow_runc(tmp_path)))
    starting = asyncio.ensure_future(runner.start())
    await until((tmp_path / "reached").exists)
    starting.cancel()
    (tmp_path / "go").touch()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert os.listdir(Path(settings.data_root, HOMES)) == []
