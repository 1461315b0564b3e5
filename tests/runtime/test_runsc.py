"""What is particular about gVisor."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest
from support import bed

from shim.errors import AlreadyExists, InvalidArgument, Unknown
from shim.process import Exit, Reaper
from shim.runtime.command import Result
from shim.runtime.runsc import Runsc, RunscCommandLine, network_of, takes_network

HOOK = {"path": "/opt/cni"}


def config(**network: str) -> dict:
    return {"linux": {"namespaces": [{"type": "pid"}, {"type": "network", **network}]}}


@pytest.mark.parametrize(
    ("spec", "network"),
    [
        (config(), "none"),
        (config(path=""), "none"),
        (config(path="/run/netns/pod"), ""),
        ({}, ""),
        ({"linux": {"namespaces": [{"type": "pid"}]}}, ""),
        ({**config(), "hooks": {"createRuntime": [HOOK]}}, ""),
        ({**config(), "hooks": {"prestart": [], "poststop": [HOOK]}}, "none"),
    ],
)
def test_only_a_network_that_nobody_can_have_configured_is_none(spec, network):
    assert network_of(spec) == network


@pytest.fixture
def netns():
    subprocess.run(["ip", "netns", "add", "ocishim-apart"], check=True)
    yield "/run/netns/ocishim-apart"
    subprocess.run(["ip", "netns", "delete", "ocishim-apart"], check=True)


@pytest.mark.root
def test_the_host_s_network_is_never_taken(netns):
    """runsc takes the addresses of what it finds: of the host's interfaces, where it is not kept from it."""
    line = RunscCommandLine(binary="/usr/bin/runsc", root="/r")
    assert takes_network(config(path=netns), line)
    hooked = {**config(), "hooks": {"prestart": [HOOK]}}
    assert takes_network(hooked, replace(line, network=network_of(hooked)))
    assert not takes_network(config(), replace(line, network=network_of(config())))
    for given in (
        config(path="/proc/self/ns/net"),
        config(path="/run/netns/none"),
        {},
        {"linux": {"namespaces": []}},
    ):
        assert not takes_network(given, line)
    for kind in ("host", "none"):
        assert not takes_network(config(path=netns), replace(line, config=(("network", kind),)))
    assert takes_network(config(path=netns), replace(line, config=(("network", "sandbox"),)))


def test_what_hides_is_gone_by_the_time_of_runsc():
    line = RunscCommandLine(binary="/usr/bin/runsc", root="/r", hide_sysctls=True)
    assert line.start("c")[-2:] == ["start", "c"]
    assert line.start("c").index("/usr/bin/runsc") > line.start("c").index("sh")
    assert replace(line, hide_sysctls=False).start("c")[0] == "/usr/bin/runsc"


def explained(*errors: str) -> str:
    line = RunscCommandLine(binary="/usr/bin/runsc", root="/r")
    result = Result(Exit(128, 0), b"", b"", errors)
    return Runsc("runsc", line, Reaper(), timeout=1).explain(result)


def test_the_first_error_is_told_where_the_last_is_vague():
    last = "creating container: cannot create sandbox: cannot read client sync file: EOF"
    assert explained("mounting /data: no such file", last) == f"{last}: mounting /data: no such file"
    assert explained("first", "last") == "last"
    assert explained(last) == last


def test_a_refused_network_comes_with_a_hint():
    text = explained("setting up network: cannot run with network enabled in root network namespace")
    assert 'set network = "none" or "host" in runsc_config' in text


@pytest.fixture
def runsc(leaks, playground):
    bed.need_runtime("runsc")
    return lambda body: playground("runsc", body)


@pytest.mark.root
def test_a_duplicate_does_not_harm_the_container_that_is_there(runsc, bundle):
    folder = bundle(["sleep", "1000"])

    async def body(here):
        await here.create("one", folder)
        with pytest.raises(AlreadyExists):
            await here.create("one", folder)
        assert (await here.driver.state("one"))["status"] == "created"

    runsc(body)


@pytest.mark.root
def test_start_finds_the_network_again_without_create(runsc, bundle):
    """As after a restart of the shim."""
    folder = bundle(["true"])

    async def body(here):
        sandbox = await here.create("one", folder)
        here.driver._starts.clear()
        await here.driver.start("one")
        assert (await sandbox.wait()).status == 0

    runsc(body)


@pytest.mark.root
def test_a_failed_start_leaves_a_sandbox_that_only_force_deletes(runsc, bundle):
    folder = bundle(["/nope"])

    async def body(here):
        sandbox = await here.create("one", folder)
        with pytest.raises(Unknown):
            await here.driver.start("one")
        assert (await here.driver.state("one"))["status"] == "created"
        await here.driver.delete("one", force=True)
        assert (await sandbox.wait()).signal == 9

    runsc(body)


@pytest.mark.root
def test_what_broke_the_sandbox_is_told(runsc, bundle):
    mount = {"destination": "/data", "type": "bind", "source": "/nonexistent/volume", "options": ["bind"]}
    folder = bundle(["true"], mounts=[mount])

    async def body(here):
        with pytest.raises(Unknown, match="/nonexistent/volume"):
            await here.create("one", folder)

    runsc(body)


@pytest.mark.root
def test_an_argument_that_runsc_would_lose_is_refused(runsc, bundle):
    folder = bundle(["sleep", "1000"])
    process = json.dumps({"args": ["true"], "cwd": "/"}).encode()

    async def body(here):
        await here.create("detached", folder)
        await here.driver.start("detached")
        with pytest.raises(InvalidArgument, match="'detached'"):
            await here.exec("detached", process)

    runsc(body)


@pytest.mark.root
def test_a_bundle_that_cannot_be_read_is_named(runsc, tmp_path):
    async def body(here):
        with pytest.raises(InvalidArgument, match=f"bundle {tmp_path}/none has no usable config.json"):
            await here.create("one", tmp_path / "none")

    runsc(body)
