"""``ocishim plugin run``: a registered plugin, in the foreground, with the limits of its runtime."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import bed, go_plugin
from support.plugin_containers import GO_IMAGE

from shim.catalog import Catalog, Plugin, PluginRuntime

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

PROGRAM = [sys.executable, "-m", "shim"]
COOKIE = ["--cookie", "=".join(go_plugin.COOKIE), "--protocol-version", "2", "--protocol-version", "3"]


@pytest.fixture
def environment(settings, tmp_path, monkeypatch):
    """That of the command line, whose configuration is this test's."""
    file = tmp_path / "config.toml"
    file.write_text(f'state_root = "{settings.state_root}"\ndata_root = "{settings.data_root}"\n')
    sockets = tmp_path / "tmp"
    sockets.mkdir()
    yield {**os.environ, "OCISHIM_CONFIG": str(file), "TMPDIR": str(sockets)}
    assert os.listdir(sockets) == []


@pytest.fixture
def registered(settings, go_image, parent):
    """Registers the plugin ``mine`` and its runtime."""

    def register(runtime: dict | None = None, **members) -> None:
        kept = Catalog(settings.storage, settings.data_root)
        kept.register_runtime(
            PluginRuntime("small", **{"cgroup_parent": parent, "oci_runtime": "runc", **(runtime or {})})
        )
        given = {
            "sha256": go_image.removeprefix("sha256:"),
            "oci_image": GO_IMAGE,
            "runtime": "small",
            **members,
        }
        kept.register_plugin(Plugin.from_input("secret", "mine", given)[0])

    return register


@contextmanager
def running(environment, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [*PROGRAM, "plugin", "run", *words]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("oci_runtime", ["runc", ""], ids=["runc", "gvisor-by-default"])
def test_it_runs_until_it_is_interrupted(registered, environment, oci_runtime):
    registered({"oci_runtime": oci_runtime, "cpu_nanos": 500_000_000, "memory_bytes": 256 << 20})
    with running(environment, *COOKIE, "--json", "--no-mtls", "mine") as process:
        found = json.loads(process.stdout.readline())
        assert (found["protocol_version"], found["network"], found["identity"]) == (3, "unix", None)
        assert found["id"].startswith("plugin-")
        assert Path(found["address"]).is_socket()
        # The second does not stop what the first has begun.
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")


def test_another_client_attaches_to_it(registered, environment):
    """By what is printed: with the key, through mutual TLS; and it ends with that one."""
    registered()
    attach = (
        "import asyncio, json, sys\n"
        "from support.plugins import Number, call, config\n"
        "from shim.plugin import AttachedContainer\n"
        "from shim.plugin.client import PluginClient\n"
        "from shim.plugin.reattach_config import ReattachConfig\n"
        "async def main():\n"
        "    found = ReattachConfig.from_record(json.loads(sys.stdin.read()), 'stdin')\n"
        "    runner = await AttachedContainer.attach(found.id, found.socket_dir)\n"
        "    async with await PluginClient.reattach(config(), found, runner) as plugin:\n"
        "        print(await call(plugin.channel, 'Version', '', Number))\n"
        "asyncio.run(main())\n"
    )
    with running(environment, *COOKIE, "--json", "mine") as process:
        record = process.stdout.readline()
        assert json.loads(record)["identity"]["key"]
        other = subprocess.run(
            [sys.executable, "-c", attach],
            input=record, env={**environment, "PYTHONPATH": ":".join(sys.path)},
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (other.returncode, other.stdout, other.stderr) == (0, "3\n", "")
        out, err = process.communicate(timeout=30)
    # What the plugin logs is ours to show.
    assert (process.returncode, out) == (0, "")
    assert "INFO configuring server automatic mTLS module=test\n" in err


def test_it_is_told_to_end(registered, environment):
    registered()
    with running(environment, *COOKIE, "mine") as process:
        words = process.stdout.readline().split()
        assert words[0].startswith("plugin-")
        assert words[1].startswith("unix:///")
        assert words[2:] == ["version", "3"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 143


@pytest.mark.parametrize(
    ("runtime", "members", "words", "says"),
    [
        ({}, {"sha256": "0" * 64}, ["mine"], "SHA256 mismatch"),
        ({}, {"version": "v9.9.9"}, ["mine"], "SHA256 mismatch"),
        ({}, {}, ["--version", "1.0.0", "mine"], "plugin not found"),
        ({}, {}, ["other"], "plugin not found"),
        ({}, {}, ["mine"], "This binary is a plugin"),
        ({}, {"command": "x", "oci_image": ""}, ["mine"], "has no image"),
        ({"oci_runtime": "no-such-runtime"}, {}, ["mine"], "no-such-runtime"),
        ({"rootless": True}, {}, ["mine"], "--group"),
        ({"cpu_nanos": 5}, {}, ["mine"], "nano_cpus"),
    ],
)
def test_what_cannot_be_run_is_told_in_one_line(registered, environment, runtime, members, words, says):
    registered(runtime, **members)
    with running(environment, *words) as process:
        out, err = process.communicate(timeout=60)
    lines = [line for line in err.splitlines() if line.startswith("ocishim: ")]
    assert (out, len(lines)) == ("", 1)
    assert says in lines[0]
    assert process.returncode in {1, 125}


@pytest.mark.cgroup2
def test_its_runtimes_limits_are_in_force(registered, environment, parent):
    registered({"cpu_nanos": 500_000_000, "memory_bytes": 256 << 20})
    with running(environment, *COOKIE, "mine") as process:
        plugin_id = process.stdout.readline().split()[0]
        (group,) = Path(f"/sys/fs/cgroup{parent}/{plugin_id}").glob("*/")
        assert (group / "cpu.max").read_text() == "50000 100000\n"
        assert (group / "memory.max").read_text() == f"{256 << 20}\n"
        assert bed.has_cgroup2()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
