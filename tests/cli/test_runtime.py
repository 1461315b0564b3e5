"""Runtimes of the catalog by the command line, and containers that are run by them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shim.catalog import Catalog, PluginRuntime
from shim.cli.catalog_runtime import for_container
from shim.config import Config
from shim.errors import FailedPrecondition, NotFound

MINE = ["-oci_runtime=runc", "-cgroup_parent=/mine/", "-cpu_nanos=500000000", "-memory_bytes=268435456"]
ALL = {
    "cgroup_parent": "/mine/",
    "cpu_nanos": 500000000,
    "memory_bytes": 268435456,
    "name": "mine",
    "oci_runtime": "runc",
    "rootless": False,
    "type": "container",
}


def info(ocishim, name):
    return json.loads(ocishim("runtime", "info", "--json", name).out)


def test_what_vaults_command_line_prints(ocishim):
    said = ocishim("runtime", "register", "-type=container", *MINE, "mine")
    assert said == (0, "Success! Registered plugin runtime: mine\n", "")
    assert ocishim("runtime", "register", "other").code == 0
    assert ocishim("runtime", "info", "-type=container", "mine").out == (
        "Key              Value\n"
        "---              -----\n"
        "cgroup_parent    /mine/\n"
        "cpu_nanos        500000000\n"
        "memory_bytes     268435456\n"
        "name             mine\n"
        "oci_runtime      runc\n"
        "rootless         false\n"
        "type             container\n"
    )
    assert ocishim("runtime", "list").out == (
        "Name     Type         OCI Runtime    Parent Cgroup    CPU Nanos    Memory Bytes\n"
        "----     ----         -----------    -------------    ---------    ------------\n"
        "mine     container    runc           /mine/           500000000    268435456\n"
        "other    container    n/a            n/a              0            0\n"
    )
    said = ocishim("runtime", "deregister", "-type=container", "mine")
    assert said == (0, "Success! Deregistered plugin runtime: mine\n", "")
    assert [each["name"] for each in json.loads(ocishim("runtime", "list", "-format=json").out)] == ["other"]


@pytest.mark.parametrize(
    "words",
    [
        MINE,
        [word.replace("-", "--", 1) for word in MINE],
        [part for word in MINE for part in word.split("=")],
        [word.replace("-", "--", 1).replace("_", "-") for word in MINE],
        [*MINE, "-rootless=false", "-type", "container"],
    ],
)
def test_every_spelling_of_an_option(ocishim, words):
    assert ocishim("runtime", "register", *words, "mine").code == 0
    assert info(ocishim, "mine") == ALL


@pytest.mark.parametrize("word", ["-rootless", "--rootless", "-rootless=true", "--rootless=1"])
def test_a_truth_may_have_a_value(ocishim, word):
    assert ocishim("runtime", "register", word, "mine").code == 0
    assert info(ocishim, "mine")["rootless"] is True


def test_a_single_field(ocishim):
    ocishim("runtime", "register", *MINE, "mine")
    assert ocishim("runtime", "info", "-field=cpu_nanos", "mine").out == "500000000\n"
    assert ocishim("runtime", "info", "--field", "cgroup_parent", "mine").out == "/mine/\n"
    said = ocishim("runtime", "info", "-field=nope", "mine")
    assert (said.code, said.out) == (2, "")
    assert "there is no field 'nope'; there are cgroup_parent, cpu_nanos" in said.err


def test_registering_again_replaces_all(ocishim):
    ocishim("runtime", "register", *MINE, "mine")
    assert ocishim("runtime", "register", "-oci_runtime=crun", "mine").code == 0
    assert info(ocishim, "mine") == {
        **ALL, "oci_runtime": "crun", "cgroup_parent": "", "cpu_nanos": 0, "memory_bytes": 0,
    }  # fmt: skip


def test_a_path_does_not_depend_on_where_we_are(ocishim):
    ocishim("runtime", "register", "-oci_runtime=./my-runc", "mine")
    assert info(ocishim, "mine")["oci_runtime"] == os.path.abspath("my-runc")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["register"], 2, "missing argument 'NAME'"),
        (["register", "-type=vm", "mine"], 2, "'vm' is not 'container'"),
        (["register", "-cpu_nanos=-1", "mine"], 1, "runtime cpu in nanos cannot be negative"),
        (["register", "-memory_bytes=-1", "mine"], 1, "runtime memory in bytes cannot be negative"),
        (["register", "-cpu_nanos=x", "mine"], 2, "'x' is not a valid integer"),
        (["register", "-memory_bytes=9223372036854775808", "mine"], 2, "is not in the range"),
        (["register", "-cgroup_parent=../../x", "mine"], 1, "must not contain '..'"),
        (["register", "-oci_runtime=a\nb", "mine"], 1, "control characters"),
        (["register", "-rootless=maybe", "mine"], 2, "does not take a value"),
        (["register", "-nope", "mine"], 2, "no such option"),
        (["register", "../mine"], 1, "plugin runtime name '../mine': use letters"),
        (["info", "nope"], 1, 'failed to retrieve container plugin runtime "nope": plugin runtime not found'),
        (["deregister", "nope"], 1, "plugin runtime not found"),
    ],
)
def test_what_cannot_be(ocishim, words, code, said):
    result = ocishim("runtime", *words)
    assert (result.code, result.out) == (code, "")
    assert said in result.err
    assert result.err.startswith("ocishim: ")
    assert result.err.count("\n") == 1
    assert ocishim("runtime", "list", "--json").out == "[]\n"


def test_a_runtime_that_a_plugin_names_stays(ocishim):
    ocishim("runtime", "register", "mine")
    ocishim("plugin", "register", f"-sha256={'ab' * 32}", "-oci_image=i", "-runtime=mine", "secret", "p")
    said = ocishim("runtime", "deregister", "mine")
    assert (said.code, said.err) == (
        1,
        'ocishim: unable to delete "mine" runtime. Registered plugins=[p] are referencing it.\n',
    )


@pytest.fixture
def config(tmp_path):
    return Config(data_root=str(tmp_path), cgroup_parent="/theirs", cpu_nanos=7, runtime="catalog:mine")


def test_a_record_goes_over_the_configuration_and_under_the_command_line(config):
    catalog = Catalog(config.storage, config.data_root)
    catalog.register_runtime(PluginRuntime("mine", "container", "crun", "/mine", 8, 9))
    found = for_container(config)
    assert (found.runtime, found.cgroup_parent, found.cpu_nanos, found.memory_bytes) == (
        "crun",
        "/mine",
        8,
        9,
    )
    found = for_container(config, {"runtime", "cpu_nanos"})
    assert (found.runtime, found.cgroup_parent, found.cpu_nanos, found.memory_bytes) == (
        "crun",
        "/mine",
        7,
        9,
    )


def test_what_a_record_leaves_open_stays_as_it_was_except_for_the_runtime(config):
    Catalog(config.storage, config.data_root).register_runtime(PluginRuntime("mine"))
    found = for_container(config)
    assert (found.runtime, found.cgroup_parent, found.cpu_nanos, found.memory_bytes) == (
        "runsc",
        "/theirs",
        7,
        0,
    )


def test_without_the_catalog_nothing_changes_and_nothing_is_read(config):
    config = Config(data_root="/dev/null/nowhere", runtime="runc")
    assert for_container(config) == config


def test_what_is_not_in_the_catalog(config):
    with pytest.raises(NotFound, match='"mine": plugin runtime not found'):
        for_container(config)


def test_rootless_is_for_users(config, monkeypatch):
    Catalog(config.storage, config.data_root).register_runtime(PluginRuntime("mine", rootless=True))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(
        FailedPrecondition, match="runtime mine of the catalog is rootless: run ocishim as a user"
    ):
        for_container(config)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FailedPrecondition, match=r"has no such mode .*; register it with -oci_runtime=runc"):
        for_container(config)
    Catalog(config.storage, config.data_root).register_runtime(
        PluginRuntime("mine", rootless=True, oci_runtime="runc")
    )
    assert for_container(config).runtime == "runc"


def test_names_are_offered(tmp_path, monkeypatch):
    config = tmp_path / "config.toml"
    config.write_text(f'data_root = "{tmp_path}/data"\n')
    Catalog("filesystem", f"{tmp_path}/data").register_runtime(PluginRuntime("mine"))
    ran = subprocess.run(
        [sys.executable, "-m", "shim"],
        env={
            **os.environ,
            "OCISHIM_CONFIG": str(config),
            "_OCISHIM_COMPLETE": "bash_complete",
            "COMP_WORDS": "ocishim run --runtime cat",
            "COMP_CWORD": "3",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.split() == ["plain,catalog:mine"]


SLEEP = ["sleep", "1000"]


@pytest.fixture
def parent(configuration):
    """A cgroup that is the record's, below that of the test."""
    lines = configuration.read_text().splitlines()
    return next(line for line in lines if line.startswith("cgroup_parent")).split('"')[1] + "/mine"


def run_as(ocishim, container_id):
    """The cgroup, and CPU and memory that it may use."""
    state = json.loads(ocishim("state", "--json", container_id).out)
    assert Path(state["runtime"]).name == "runc"
    limits = state["limits"]
    return (
        state["cgroup"]["path"],
        limits["cpu"]["quota"] / limits["cpu"]["period"],
        limits["memory"]["limit"],
    )


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_a_container_is_run_as_the_record_says(ocishim, bundle, parent):
    ocishim(
        "runtime", "register", "-oci_runtime=runc", f"-cgroup_parent={parent}/", "-cpu_nanos=500000000",
        "-memory_bytes=268435456", "mine",
    )  # fmt: skip
    assert ocishim("run", "-d", "--runtime", "catalog:mine", bundle(SLEEP), "c1") == (0, "c1\n", "")
    assert run_as(ocishim, "c1") == (f"{parent}/c1", 0.5, 268435456)
    assert ocishim("delete", "--force", "c1").code == 0


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_create_and_options_of_the_command_line_over_the_record(ocishim, bundle, parent):
    ocishim(
        "runtime",
        "register",
        "-oci_runtime=runc",
        f"-cgroup_parent={parent}",
        "-memory_bytes=268435456",
        "mine",
    )
    made = ocishim(
        "create", "--runtime", "catalog:mine", "--memory", "64m", "--cpus", "0.25", bundle(SLEEP), "c1"
    )
    assert made == (0, "c1\n", "")
    assert run_as(ocishim, "c1") == (f"{parent}/c1", 0.25, 64 << 20)
    assert ocishim("delete", "--force", "c1").code == 0


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_nothing_is_left_of_what_the_catalog_does_not_have(ocishim, bundle):
    made = bundle(["true"])
    for words in (("run",), ("run", "-d"), ("create",)):
        said = ocishim(*words, "--runtime", "catalog:nope", made)
        assert (said.code, said.out) == (125, "")
        assert said.err == (
            'ocishim: failed to retrieve container plugin runtime "nope": plugin runtime not found\n'
        )
    ocishim("runtime", "register", "-rootless", "user")
    said = ocishim("run", "--runtime", "catalog:user", made)
    assert said.code == 125
    assert "is rootless: run ocishim as a user other than root" in said.err
    assert ocishim("list", "-q").out == ""


@pytest.fixture
def sandbox_file(bundle, tmp_path):
    """A sandbox ``s1`` with one container, run by a runtime of the catalog."""
    container = {"id": "a", "bundle": str(bundle(SLEEP))}
    file = tmp_path / "sandbox.yaml"
    file.write_text(json.dumps({"id": "s1", "runtime": "catalog:mine", "containers": [container]}))
    return file


@pytest.mark.root
@pytest.mark.usefixtures("leaks")
def test_a_sandbox_is_run_as_the_record_says(ocishim, sandbox_file, parent):
    said = ocishim("sandbox", "create", sandbox_file)
    assert (said.code, said.out) == (1, "")
    assert 'runtime "mine": plugin runtime not found' in said.err
    ocishim("runtime", "register", "-oci_runtime=runc", f"-cgroup_parent={parent}", "mine")
    made = json.loads(ocishim("sandbox", "create", "--json", sandbox_file).out)
    assert Path(made["runtime"]).name == "runc"
    groups = Path(f"/proc/{made['containers'][0]['pid']}/cgroup").read_text()
    assert f":{parent}/" in groups
    assert ocishim("sandbox", "delete", "--force", "s1").code == 0


def test_what_a_runtime_of_the_catalog_can_do(ocishim):
    ocishim("runtime", "register", "-oci_runtime=runc", "mine")
    said = ocishim("features", "--json", "--runtime", "catalog:mine")
    assert json.loads(said.out)["runtime"].endswith("/runc")


def limit(ocishim, parent):
    """The runtime "mine" of the catalog has limits."""
    ocishim(
        "runtime", "register", "-oci_runtime=runc", f"-cgroup_parent={parent}/", "-cpu_nanos=500000000",
        "-memory_bytes=67108864", "mine",
    )  # fmt: skip


def limited_group_of(pid, parent):
    """The cgroup of a process, which is below ``parent`` and has those limits."""
    (line,) = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    path = line.removeprefix("0::")
    assert path.startswith(f"{parent}/")
    group = Path(f"/sys/fs/cgroup{path}")
    assert (group / "cpu.max").read_text() == "50000 100000\n"
    assert (group / "memory.max").read_text() == "67108864\n"
    return group


@pytest.mark.root
@pytest.mark.cgroup2
@pytest.mark.usefixtures("leaks")
def test_the_kernel_has_the_limits_of_the_record(ocishim, bundle, parent):
    limit(ocishim, parent)
    assert ocishim("run", "-d", "--runtime", "catalog:mine", bundle(SLEEP), "c1").code == 0
    group = limited_group_of(json.loads(ocishim("state", "--json", "c1").out)["pid"], parent)
    assert ocishim("delete", "--force", "c1").code == 0
    assert not group.exists()


@pytest.mark.root
@pytest.mark.cgroup2
@pytest.mark.usefixtures("leaks")
def test_the_kernel_has_them_for_a_sandbox_too(ocishim, sandbox_file, parent):
    limit(ocishim, parent)
    made = json.loads(ocishim("sandbox", "create", "--json", sandbox_file).out)
    limited_group_of(made["containers"][0]["pid"], parent)
    assert ocishim("sandbox", "delete", "--force", "s1").code == 0
