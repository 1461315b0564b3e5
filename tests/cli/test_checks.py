from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from shim.cgroup.hierarchy import Hierarchy, Mount
from shim.cli import checks
from shim.cli.app import run
from shim.config import Config


def _only(check, config=None):
    (found,) = check(config or Config())
    return found


@pytest.mark.parametrize(
    ("hierarchy", "verdict", "advice"),
    [
        (Hierarchy("none"), "fail", "mount cgroup v2"),
        (Hierarchy("legacy", None, frozenset(), {"cpu": Mount("/c")}), "warn", "left to the runtime"),
        (Hierarchy("unified", Mount("/tmp"), frozenset({"cpu", "memory"})), "warn", "no limits for pids"),
        (Hierarchy("unified", Mount("/tmp"), frozenset({"cpu", "memory", "pids"})), "ok", ""),
    ],
)
def test_what_limits_need_of_the_cgroups(monkeypatch, hierarchy, verdict, advice):
    monkeypatch.setattr(checks, "detect", lambda: hierarchy)
    found = _only(checks.control_groups)
    assert found.verdict == verdict
    assert advice in found.advice


def test_every_capability_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(checks.os, "geteuid", lambda: 0)
    monkeypatch.setattr(checks, "_effective_capabilities", lambda: 1 << 12)
    found = {check.found: check.verdict for check in checks.permissions(Config())}
    assert found == {"root without CAP_SYS_ADMIN": "fail", "root without CAP_SYS_RESOURCE": "warn"}


def test_without_root_there_is_advice(monkeypatch):
    monkeypatch.setattr(checks.os, "geteuid", lambda: 1000)
    first, *_ = checks.permissions(Config())
    assert first.verdict == "warn"
    assert "spec --rootless" in first.advice


def test_a_state_directory_must_be_usable(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    assert _only(checks.state, Config(state_root=str(tmp_path))).verdict == "warn"
    tmp_path.chmod(0o700)
    assert _only(checks.state, Config(state_root=str(tmp_path))).verdict == "ok"
    (tmp_path / "file").write_text("")
    assert _only(checks.state, Config(state_root=str(tmp_path / "file"))).verdict == "fail"
    assert "too long" in _only(checks.state, Config(state_root="/" + "x" * 120)).found
    usage = SimpleNamespace(free=1 << 20)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: usage)
    assert "1 MiB left" in _only(checks.state, Config(state_root=str(tmp_path))).found


def test_the_configured_runtime_is_needed_and_others_are_not(monkeypatch):
    monkeypatch.setattr(checks, "find_binary", lambda name: f"/bin/{name}")
    monkeypatch.setattr(checks, "_version", lambda binary: f"{binary} 1.0")
    monkeypatch.setattr(checks, "try_runtime", lambda _config, binary: "broken" if "c" in binary else "")
    found = {check.name: check for check in checks.runtimes(Config(runtime="runc"))}
    assert {name: check.verdict for name, check in found.items()} == {
        "runc": "fail",
        "crun": "warn",
        "runsc": "warn",
    }
    assert found["runc"].found == "/bin/runc, /bin/runc 1.0: a container does not run: broken"


def test_a_runtime_that_is_not_installed_is_told_how_to_get(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    found = {check.name: check for check in checks.runtimes(Config(runtime="crun"))}
    assert list(found) == ["crun", "runc", "runsc"]
    assert found["crun"].verdict == "fail"
    assert found["runsc"].advice == "apt-get install runsc (gVisor, a sandbox)"


def test_the_doctor_ends_with_1_if_something_needed_fails(monkeypatch, capsys):
    def sick(_):
        yield checks.Check("a", "ok", "fine")
        yield checks.Check("b", "fail", "sick", "see a doctor")

    monkeypatch.setattr(checks, "ALL", (sick,))
    assert run(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("fail  b ")
    assert lines[2].strip() == "-> see a doctor"
    assert run(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[1] == {
        "name": "b",
        "verdict": "fail",
        "found": "sick",
        "advice": "see a doctor",
    }
    monkeypatch.setattr(checks, "ALL", ())
    assert run(["doctor"]) == 0


def test_what_images_need(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    first, second = checks.images(Config())
    assert (first.verdict, second.verdict) == ("warn", "warn")
    assert first.advice.endswith(": apt-get install umoci")
    assert second.advice.endswith(": apt-get install skopeo")
    (tmp_path / "umoci").write_text("#!/bin/sh\necho umoci version 7\n")
    (tmp_path / "umoci").chmod(0o755)
    first, _ = checks.images(Config())
    assert (first.verdict, first.found) == ("ok", "umoci version 7")
