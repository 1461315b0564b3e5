from __future__ import annotations

import pytest

from shim.config import Config
from shim.errors import InvalidArgument, NotFound
from shim.runtime import driver_for
from shim.runtime.registry import find_binary, kind_of_name, kind_of_version
from shim.runtime.runsc import Runsc


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("runc", "runc"),
        ("runc-1.1", "runc"),
        ("crun", "crun"),
        ("crun_static", "crun"),
        ("runsc", "runsc"),
        ("runsc20240729", "runsc"),
        ("runcible", None),
        ("youki", None),
        ("my-runc", None),
    ],
)
def test_the_name_tells_the_kind(name, kind):
    assert kind_of_name(name) == kind


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\n", "runc"),
        ("crun version 1.8.1\ncommit: f8a096\n", "crun"),
        ("runsc version 0.0~20221219.0\nspec: 1.0.2-dev\n", "runsc"),
        ("youki 0.3.0\n", None),
        ("", None),
    ],
)
def test_the_version_tells_the_kind(output, kind):
    assert kind_of_version(output) == kind


def driver_of(run, **config):
    async def body(reaper):
        return await driver_for(Config(**config), "ns", reaper)

    return run(body)


@pytest.fixture
def on_path(script, tmp_path, monkeypatch):
    """Puts fake runtimes on an otherwise nearly empty PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return lambda name, says="true": script(says, name)


def test_a_name_is_looked_up_on_path(run, on_path):
    binary = on_path("runc")
    driver = driver_of(run, runtime="runc", state_root="/run/o")
    assert (driver.kind, driver.binary, driver.root) == ("runc", binary, "/run/o/runtime/runc/ns")
    assert not driver.waits_by_command


def test_a_configured_root_gets_the_namespace(run, on_path):
    on_path("crun")
    assert driver_of(run, runtime="crun", runtime_root="/run/mine").root == "/run/mine/ns"


def test_another_name_is_asked_for_its_version(run, on_path):
    binary = on_path("gvisor", "/bin/echo runsc version 1; /bin/echo spec: 1.1.0")
    driver = driver_of(run, runtime=binary)
    assert isinstance(driver, Runsc)
    assert (driver.kind, driver.waits_by_command) == ("runsc", True)


@pytest.mark.parametrize("says", ["/bin/echo youki 0.3.0", "exit 1", "kill -9 $$"])
def test_an_unknown_runtime_is_treated_like_runc(run, on_path, says):
    driver = driver_of(run, runtime=on_path("youki", says), state_root="/run/o")
    assert (driver.kind, driver.root) == ("youki", "/run/o/runtime/youki/ns")


def test_a_missing_runtime_is_named_with_what_is_there(on_path):
    on_path("crun")
    with pytest.raises(NotFound) as caught:
        find_binary("runc")
    assert str(caught.value) == "runtime 'runc' is not on PATH (installed: crun): 'apt-get install runc'"
    with pytest.raises(
        NotFound, match=r"'runq' is not on PATH .*: give an absolute path, or one of runc, crun, runsc$"
    ):
        find_binary("runq")


def test_a_wrong_path_is_named(tmp_path):
    with pytest.raises(NotFound, match="runtime /nonexistent/runc does not exist"):
        find_binary("/nonexistent/runc")
    (tmp_path / "runc").write_text("")
    with pytest.raises(NotFound, match="is not executable"):
        find_binary(str(tmp_path / "runc"))


def test_the_configuration_reaches_the_command_line(run, on_path):
    on_path("runsc")
    config = {"platform": "ptrace", "systemd_cgroup": True, "runsc_config": {"network": "host"}}
    line = driver_of(run, runtime="runsc", **config)._line
    assert line.flags()[-3:] == ["--systemd-cgroup=true", "--platform=ptrace", "--network=host"]
    with pytest.raises(InvalidArgument):
        driver_of(run, runtime="runsc", runsc_config={"root": "/elsewhere"})
