"""What a client sends as options with Create, laid over the shim's configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from hypothesis import given
from hypothesis import strategies as st
from support.shims import raises

from shim.config import Config
from shim.errors import InvalidArgument, ShimError
from shim.proto import linux_options_pb2, runc_options_pb2
from shim.proto.runc_options_pb2 import Options as RuncOptions
from shim.proto.runtime_options_pb2 import Options as RuntimeOptions
from shim.service.options import checkpoint_options, is_options, restored, with_options

BASE = Config(state_root="/run/x", runtime="crun", runtime_root="/root", io_uid=5)


def runc(prefix: str = "", **fields: object) -> AnyMessage:
    value = RuncOptions(**fields).SerializeToString()
    return AnyMessage(type_url=f"{prefix}containerd.runc.v1.Options", value=value)


def generic(name: str = "runtimeoptions.v1.Options", **fields: object) -> AnyMessage:
    return AnyMessage(type_url=name, value=RuntimeOptions(**fields).SerializeToString())


def linux(**fields: object) -> AnyMessage:
    value = linux_options_pb2.CreateOptions(**fields).SerializeToString()
    return AnyMessage(type_url="containerd.linux.runc.CreateOptions", value=value)


def test_no_options_change_nothing():
    assert with_options(BASE, AnyMessage()) == BASE
    assert with_options(BASE, runc()) == BASE
    assert with_options(BASE, linux()) == BASE
    assert with_options(BASE, generic()) == BASE


def test_what_clients_of_containerd_1_send():
    options = linux(no_pivot_root=True, no_new_keyring=True, io_uid=1, io_gid=2, shim_cgroup="/x")
    assert is_options(options)
    assert with_options(BASE, options) == replace(
        BASE, no_pivot_root=True, no_new_keyring=True, io_uid=1, io_gid=2, shim_cgroup="/x"
    )
    with raises(InvalidArgument, "options of type containerd.linux.runc.CreateOptions cannot be decoded"):
        with_options(BASE, AnyMessage(type_url=options.type_url, value=b"\xff"))


PATHS = {"criu_image_path": "/i", "criu_work_path": "/w"}


@pytest.mark.parametrize("options", [runc(**PATHS), linux(**PATHS)])
def test_an_image_to_restore(options):
    assert restored(options) == ("/i", "/w")


@pytest.mark.parametrize("options", [AnyMessage(), runc(), linux(), generic()])
def test_no_image_to_restore(options):
    assert restored(options) == ("", "")


def test_options_of_a_checkpoint():
    fields = {"exit": True, "work_path": "/w", "image_path": "/i"}
    new = runc_options_pb2.CheckpointOptions(**fields)
    old = linux_options_pb2.CheckpointOptions(**fields)
    for message in (new, old):
        wire = AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())
        assert checkpoint_options(wire) == message
    assert checkpoint_options(AnyMessage()) == runc_options_pb2.CheckpointOptions()
    with raises(InvalidArgument, "options of Checkpoint cannot be decoded"):
        checkpoint_options(AnyMessage(value=b"\xff"))


@pytest.mark.parametrize("prefix", ["", "type.googleapis.com/", "types.containerd.io/x/"])
def test_the_options_of_runc(prefix):
    options = runc(
        prefix,
        binary_name="/opt/runc",
        root="/other",
        systemd_cgroup=True,
        no_pivot_root=True,
        no_new_keyring=True,
        io_uid=1,
        io_gid=2,
    )
    assert with_options(BASE, options) == replace(
        BASE,
        runtime="/opt/runc",
        runtime_root="/other",
        systemd_cgroup=True,
        no_pivot_root=True,
        no_new_keyring=True,
        io_uid=1,
        io_gid=2,
    )


@pytest.mark.parametrize("name", ["runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"])
def test_toml_of_the_configuration(name):
    options = generic(name, config_body=b'runtime = "runsc"\ncpu_nanos = 5000000\n')
    assert with_options(BASE, options) == replace(BASE, runtime="runsc", cpu_nanos=5_000_000)


def test_toml_in_the_words_of_runcs_options():
    """What containerd's CRI has for a runtime called runc, whatever its type."""
    words = b'BinaryName = ""\nCriuImagePath = ""\nCriuWorkPath = ""\nIoGid = 0\nIoUid = 0\nNoNewKeyring = false\n'
    words += b'Root = ""\nShimCgroup = ""\nSystemdCgroup = false\n'
    assert with_options(BASE, generic(config_body=words)) == BASE
    words = b'BinaryName = "/opt/runc"\nIoUid = 7\nSystemdCgroup = true\ncpu_nanos = 5000000\n'
    assert with_options(BASE, generic(config_body=words)) == replace(
        BASE, runtime="/opt/runc", io_uid=7, systemd_cgroup=True, cpu_nanos=5_000_000
    )


def test_a_file_of_the_configuration(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("memory_bytes = 5000000")
    options = generic(config_path=str(file), config_body=b"ignored = 1")
    assert with_options(BASE, options).memory_bytes == 5_000_000
    file.write_text("memory = 1")
    with raises(InvalidArgument, str(file), "'memory'"):
        with_options(BASE, options)
    file.write_bytes(b"\xff")
    with raises(InvalidArgument, str(file)):
        with_options(BASE, options)
    file.unlink()
    with raises(InvalidArgument, str(file)):
        with_options(BASE, options)
    with raises(InvalidArgument, "ConfigPath"):
        with_options(BASE, generic(config_path="/a\0b"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\xff", ["not UTF-8"]),
        (b"x = ", ["not valid TOML"]),
        (b"runtime = 5", ["runtime", "5"]),
        (b"cpu_nanos = -1", ["cpu_nanos", "-1"]),
        (b'cgroup_parent = "/a/../b"', ["cgroup_parent", "/a/../b"]),
        (b"BinaryName = 5", ["BinaryName", "5"]),
        (b"IoUid = -1", ["IoUid", "-1"]),
        (b'CriuImagePath = "/x"', ["unknown key 'CriuImagePath'"]),
    ],
)
def test_toml_that_is_not_valid(body, words):
    with raises(InvalidArgument, "the TOML of runtimeoptions.v1.Options", *words):
        with_options(BASE, generic(config_body=body))


@given(st.sampled_from(["", "x", "containerd.runc.v1.Options", "runtimeoptions.v1.Options"]), st.binary())
def test_whatever_comes(name, value):
    try:
        with_options(BASE, AnyMessage(type_url=name, value=value))
    except ShimError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
