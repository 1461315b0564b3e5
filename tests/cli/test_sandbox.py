"""``ocishim sandbox`` as a user has it: one file, the verbs, and what goes wrong. Real runtimes."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from support import bed

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

SAMPLE = bed.CHECKOUT / "bundles" / "pod" / "sandbox.yaml"


@pytest.fixture(autouse=True)
def removed(leaks, ocishim):
    yield
    for each in json.loads(ocishim("sandbox", "list", "--json").out):
        assert ocishim("sandbox", "delete", "--force", each["id"]).code == 0


@pytest.fixture
def file(tmp_path: Path):
    """Makes a file that describes a sandbox; JSON is YAML, too."""

    def make(*containers: tuple[str, str], **members) -> Path:
        path = tmp_path / "sandbox.yaml"
        described = [
            {"id": name, "rootfs": str(bed.rootfs()), "read_only": True, "args": ["sh", "-c", script]}
            for name, script in containers
        ]
        path.write_text(json.dumps({"id": "s1", "containers": described, **members}))
        return path

    return make


def test_the_sample(ocishim):
    assert ocishim("sandbox", "run", SAMPLE) == (0, "client | pod\n", "")
    assert json.loads(ocishim("sandbox", "list", "--json").out) == []


def test_output_and_the_first_exit_code(ocishim, file):
    path = file(("a", "echo one; echo two >&2; exit 5"), ("b", "printf three; exit 6"))
    ran = ocishim("sandbox", "run", path)
    assert (ran.code, sorted(ran.out.splitlines()), ran.err) == (5, ["a | one", "b | three"], "a | two\n")


def test_the_verbs(ocishim, file):
    made = ocishim("sandbox", "create", "--json", file(("a", "sleep inf")))
    assert json.loads(made.out)["state"] == "running"
    assert [line.split()[:3] for line in ocishim("sandbox", "list").out.splitlines()] == [
        ["SANDBOX", "STATUS", "RUNTIME"], ["s1", "running", "runc"],
    ]  # fmt: skip
    shown = ocishim("sandbox", "status", "s1").out
    assert "status   running\n" in shown
    assert any(line.split()[:2] == ["a", "running"] for line in shown.splitlines())
    refused = ocishim("sandbox", "delete", "s1")
    assert (refused.code, refused.err) == (
        1, "ocishim: sandbox s1 is running: it has to be ready or paused or stopped for that\n",
    )  # fmt: skip
    for verb, state in (("pause", "paused"), ("resume", "running"), ("stop", "stopped")):
        assert ocishim("sandbox", verb, "s1") == (0, "", "")
        assert json.loads(ocishim("sandbox", "status", "--json", "s1").out)["state"] == state
    assert ocishim("sandbox", "delete", "s1") == (0, "", "")
    assert ocishim("sandbox", "status", "s1").err == "ocishim: sandbox s1 does not exist\n"


def test_what_is_plugged_in(ocishim, file):
    ocishim("sandbox", "run", "-d", file(("a", "sleep inf")))
    assert ocishim(
        "nic", "add", "s1", "hot0", "--peer-name", "ocishim-pod0", "--address", "10.95.0.2/24"
    ) == (0, "", "")
    assert "default" not in ocishim("route", "list", "s1").out
    assert "0.0.0.0/0" in ocishim("route", "update", "s1", "default via 10.95.0.1").out
    assert "hot0" in ocishim("nic", "list", "s1").out
    assert ocishim("device", "add", "s1/a", "/etc/hosts", "/dev/hosts") == (0, "", "")
    assert "/dev/hosts" in ocishim("device", "list", "s1/a").out
    assert ocishim("device", "remove", "s1/a", "/dev/hosts") == (0, "", "")
    assert ocishim("nic", "remove", "s1", "hot0") == (0, "", "")
    assert "container b does not exist in sandbox s1" in ocishim("device", "list", "s1/b").err
    assert "sandbox s2 does not exist" in ocishim("device", "list", "s2/b").err
    assert ocishim("device", "list", "../x/b").code == 2
    assert "container s2 does not exist" in ocishim("nic", "list", "s2").err


def test_monitor_tells_of_a_container_that_ends(ocishim, program, file):
    assert ocishim("sandbox", "run", "-d", file(("a", "sleep inf"))).out == "s1\n"
    with subprocess.Popen(
        [*program, "sandbox", "monitor", "--json", "s1"], stdout=subprocess.PIPE
    ) as watching:
        pid = json.loads(ocishim("sandbox", "status", "--json", "s1").out)["containers"][0]["pid"]
        # It watches when its connection is there: what ends before is told, too.
        subprocess.run(["kill", "-KILL", str(pid)], check=True)
        told = json.loads(watching.stdout.readline())
        assert (told["kind"], told["container"], told["exit_status"]) == ("exit", "a", 137)
        watching.send_signal(signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_whole(ocishim, program, file, number):
    command = [*program, "sandbox", "run", str(file(("a", "echo up; sleep inf"), ("b", "sleep inf")))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout.readline() == b"a | up\n"
        running.send_signal(number)
        assert running.wait(60) == 128 + number
    assert json.loads(ocishim("sandbox", "list", "--json").out) == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.yaml", "[", "x.yaml is no YAML"),
        ("x.toml", "[", "x.toml is no TOML"),
        ("x.yaml", "- 1", "an object is expected"),
        ("x.yaml", "id: 5", "id = 5 is not what it has to be"),
        ("x.toml", "id = 's'\nnaem = 1", "unknown member 'naem'"),
        ("x.toml", "id = 's'\n[[containers]]\nid = 'c'\nbundle = 'none'", "has no config.json"),
        ("x.yaml", "id: s", "has no containers to run"),
    ],
)
def test_a_file_that_says_nothing_good(ocishim, tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    refused = ocishim("sandbox", "run", tmp_path / name)
    assert (refused.code, refused.out) == (1, "")
    assert said in refused.err
    assert refused.err.count("\n") == 1
    assert "cannot be read" in ocishim("sandbox", "run", tmp_path / "none.yaml").err
