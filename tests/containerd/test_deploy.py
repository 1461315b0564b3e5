"""The files of deploy/: each is what its reader takes, and they agree with each other."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import bed
from support.containerd import RUNTIME, series
from support.cri import KubernetesContainerd

from shim.config import Config, overlay

DEPLOY = bed.CHECKOUT / "deploy"
HANDLERS = {"ocishim", "ocishim-gvisor"}
_PLUGINS = {
    "1.6": "io.containerd.grpc.v1.cri",
    "1.7": "io.containerd.grpc.v1.cri",
    "2": "io.containerd.cri.v1.runtime",
}


def handlers_in(text: str, version: str) -> dict[str, Any]:
    return tomllib.loads(text)["plugins"][_PLUGINS[version]]["containerd"]["runtimes"]


class Deployed(KubernetesContainerd):
    """A daemon whose configuration ends with the fragment for its version, as deploy/README.md says."""

    def configuration(self) -> str:
        version = series()
        text = super().configuration()
        if version == "2":
            old = self.folder / "version2.toml"
            old.write_text(text)
            migrate = ["containerd", "--config", old, "config", "migrate"]
            text = subprocess.run(migrate, stdout=subprocess.PIPE, check=True, text=True).stdout
        return text + (DEPLOY / "containerd" / f"{version}.toml").read_text()


@pytest.fixture
def deployed(leaks: None, run_daemon: Any, tmp_path: Path) -> Iterator[Deployed]:
    with run_daemon(tmp_path, Deployed) as daemon:
        yield daemon


@pytest.mark.parametrize("version", ["1.6", "1.7", "2"])
def test_fragments_for_containerd_name_the_same_handlers(version: str) -> None:
    handlers = handlers_in((DEPLOY / "containerd" / f"{version}.toml").read_text(), version)
    assert handlers.keys() == HANDLERS
    assert {handler["runtime_type"] for handler in handlers.values()} == {RUNTIME}
    options = handlers["ocishim-gvisor"]["options"]
    if version == "1.6":
        assert options["ConfigPath"] == "/etc/ocishim/gvisor.toml"
    else:
        assert Config(**options).runtime == "runsc"


def test_the_options_of_gvisor_are_known() -> None:
    text = (DEPLOY / "ocishim" / "gvisor.toml").read_text()
    assert overlay(Config(), text, "gvisor.toml").runtime == "runsc"


def test_runtime_classes_have_handlers() -> None:
    documents = (DEPLOY / "kubernetes" / "runtimeclasses.yaml").read_text().split("---\n")
    for document, name in zip(documents, sorted(HANDLERS), strict=True):
        assert f"\n  name: {name}\nhandler: {name}\n" in document
        assert "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\n" in document


@pytest.mark.root
def test_containerd_runs_a_pod_with_its_fragment(deployed: Deployed) -> None:
    dump = subprocess.run(
        ["containerd", "--config", deployed.folder / "config.toml", "config", "dump"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    handlers = handlers_in(dump, series())
    assert handlers.keys() >= HANDLERS
    assert {handlers[name]["runtime_type"] for name in HANDLERS} == {RUNTIME}
    pod = deployed.run_pod("deployed", "ocishim")
    container = pod.start("c", "echo", "it works")
    assert pod.wait(container) == 0
    assert pod.log("c") == ["it works"]
    pod.stop()
    pod.remove()


def test_dockers_configuration_names_the_same_runtimes() -> None:
    runtimes = json.loads((DEPLOY / "docker" / "daemon.json").read_text())["runtimes"]
    assert runtimes.keys() == HANDLERS
    assert {runtime["runtimeType"] for runtime in runtimes.values()} == {RUNTIME}
