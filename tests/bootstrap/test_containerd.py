"""The program's answers and refusals, in this process: what it says, and that nothing is there afterwards."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import prctl
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from support import bed
from support.forks import in_fork
from support.shims import options, raises

from shim import __version__
from shim.bootstrap import containerd
from shim.bootstrap.delete import delete_from_disk
from shim.config import Config
from shim.errors import DeadlineExceeded
from shim.linux.mounts import mount
from shim.proto.bootstrap_pb2 import BootstrapParams
from shim.proto.runtime_info_pb2 import RuntimeInfo
from shim.task.bundle import Bundle
from shim.task.remains import remember

Run = Callable[..., tuple[int, bytes]]
NAMES = ["-namespace", "ns", "-id", "c1"]


@pytest.fixture
def run(monkeypatch, tmp_path, state_root, capfdbinary) -> Run:
    """Runs the program in ``tmp_path``: status, and what it printed."""
    config = state_root / "config.toml"
    config.write_text(f'state_root = "{state_root}"\n')
    monkeypatch.setenv("OCISHIM_CONFIG", str(config))
    monkeypatch.chdir(tmp_path)

    def run(*argv: str, stdin: bytes = b"") -> tuple[int, bytes]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = containerd.main(argv)
        prctl.set_child_subreaper(False)  # the program's own process would have ended
        out, err = capfdbinary.readouterr()
        assert not (out and err)
        return status, out + err

    return run


def refused(run: Run, *argv: str, stdin: bytes = b"") -> str:
    """The one line that is said; nothing is there."""
    status, text = run(*argv, stdin=stdin)
    assert status == 1
    assert text.startswith(b"containerd-shim-ocishim-v2: ")
    assert text.count(b"\n") == 1
    assert list(Path.cwd().iterdir()) == []
    return text.decode()


@pytest.mark.parametrize("action", ["start", "delete"])
@pytest.mark.parametrize(
    ("namespace", "container_id", "words"),
    [
        ("", "c1", "namespace cannot be empty"),
        ("a/b", "c1", "namespace 'a/b'"),
        ("\udcff", "c1", "namespace"),
        ("ns", "", "id must not be empty"),
        ("ns", "../c1", "'../c1'"),
    ],
)
def test_names_that_cannot_be(run, action, namespace, container_id, words):
    assert words in refused(run, "-namespace", namespace, "-id", container_id, action)


@pytest.mark.parametrize(("words", "shown"), [(["fly"], "'fly'"), ([], "''"), (["-unknown"], "''")])
def test_an_unknown_action(run, words, shown):
    assert f"unknown action {shown}; known: start, delete" in refused(run, *NAMES, *words)


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        (b"\xff\xff", "2 bytes on stdin"),
        (AnyMessage(type_url="some.Options").SerializeToString(), "some.Options"),
        (AnyMessage(type_url="containerd.runc.v1.Options", value=b"\xff").SerializeToString(), "decoded"),
        (options(runtim="x").SerializeToString(), "unknown key 'runtim'"),
        (b"\0" * ((10 << 20) + 1), "more than 10485760 bytes"),
    ],
    ids=["nonsense", "unknown type", "undecodable", "unknown key", "too much"],
)
def test_options_that_cannot_be(run, stdin, words):
    assert words in refused(run, *NAMES, "start", stdin=stdin)


def test_a_directory_too_long_for_sockets(run):
    params = BootstrapParams(instance_id="c1", namespace="ns", socket_dir=f"/{'d' * 50}")
    stdin = params.SerializeToString()
    assert "too long for unix sockets" in refused(run, *NAMES, "start", stdin=stdin)


def test_a_configuration_that_cannot_be(run, monkeypatch):
    monkeypatch.setenv("OCISHIM_CONFIG", "/nowhere/config.toml")
    assert "/nowhere/config.toml does not exist" in refused(run, *NAMES, "start")


@pytest.mark.parametrize(
    "content", [b"\xff", b"", b"relative", b"unix:///etc/hostname", b"x" * 200, b"/a\0b"]
)
def test_delete_believes_no_strange_address(tmp_path, content):
    (tmp_path / "address").write_bytes(content)
    containerd._remove_dead_socket(tmp_path)
    assert Path("/etc/hostname").is_file()


class Killed:
    """Whoever is to start a shim is killed instead."""

    caller = 0

    def __init__(self, socket_dir: str) -> None:
        self.socket_dir = socket_dir

    def start(self, _: object) -> int:
        os._exit(0)  # of a fork: nothing after it is done

    def give_up(self, _: int) -> None:
        raise AssertionError


def test_of_a_start_that_is_killed_delete_finds_the_socket(monkeypatch, tmp_path, state_root):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))

    def start() -> None:
        containerd.main([*NAMES, "start"], Killed(str(state_root / "s")))
        pytest.fail("it went on")

    in_fork(start)
    path = Path((tmp_path / "address").read_text().removeprefix("unix://"))
    assert path.is_socket()
    containerd._remove_dead_socket(tmp_path)
    assert not path.exists()


@pytest.mark.root
def test_delete_goes_on_when_the_runtime_hangs(tmp_path, state_root):
    """Its mounts are gone, and what to clear away is remembered for another try."""
    runc = tmp_path / "runc"
    runc.write_text("#!/bin/sh\nexec sleep 1000\n")
    runc.chmod(0o755)
    bundle = Bundle(tmp_path / "bundle")
    bundle.rootfs.mkdir(parents=True)
    mount("none", str(bundle.rootfs), "tmpfs", 0, "")
    asyncio.run(remember(bundle, "c1", "ns", Config(state_root=str(state_root), runtime=str(runc)), ""))
    try:
        with raises(DeadlineExceeded, "0.2 s"):
            delete_from_disk(bundle.path, 0.2)
    finally:
        prctl.set_child_subreaper(False)
    assert not bundle.rootfs.is_mount()
    assert bundle.container_record.exists()


@pytest.mark.parametrize("sent", [None, "runc"])
def test_what_it_is(run, sent):
    bed.need_runtime("runc")
    stdin = options(runtime=sent).SerializeToString() if sent else b""
    info = RuntimeInfo.FromString(run("-info", stdin=stdin)[1])
    assert (info.name, info.version.version) == ("io.containerd.ocishim.v2", __version__)
    assert info.features.type_url == "types.containerd.io/opencontainers/runtime-spec/1/features/Features"
    assert json.loads(info.features.value)["ociVersionMin"]
    assert info.options.SerializeToString() == stdin


def test_a_runtime_that_tells_no_features_is_no_error(run):
    status, text = run("-info", stdin=options(runtime="/nowhere/runc").SerializeToString())
    info = RuntimeInfo.FromString(text)
    assert not info.HasField("features")
    assert (status, info.options.type_url) == (0, "runtimeoptions.v1.Options")


def test_info_about_nonsense(run):
    assert "cannot be decoded" in refused(run, "-info", stdin=b"\xff\xff")


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_version(run, flag):
    assert run(flag) == (0, f"containerd-shim-ocishim-v2:\n  Version: {__version__}\n".encode())
