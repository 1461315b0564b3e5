"""The messages are those of the protocols, and the committed modules are those of the committed sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from shim.proto import (
    cgroups_v1_pb2,
    cgroups_v2_pb2,
    generate,
    ocishim_pb2,
    runc_options_pb2,
    runtime_options_pb2,
    task_types_pb2,
    task_v2_pb2,
    task_v3_pb2,
    ttrpc_pb2,
    types_pb2,
)

COMMITTED = Path(generate.__file__).parent

# protoc writes its own version into its output; another one is no difference in the messages.
VERSION = re.compile(
    r"^# Protobuf Python Version: .*$|(?<=Domain\.PUBLIC,)\s+\d+,\s+\d+,\s+\d+,\s+'\S*',", re.MULTILINE
)


def test_the_generated_modules_are_up_to_date(tmp_path):
    generate.generate(tmp_path)
    made = sorted((tmp_path / "shim" / "proto").iterdir())
    assert [path.name for path in made] == sorted(path.name for path in COMMITTED.glob("*_pb2.py*"))
    for path in made:
        committed = (COMMITTED / path.name).read_text()
        assert VERSION.sub("", path.read_text()) == VERSION.sub("", committed), f"run make proto: {path.name}"


def test_versions_2_and_3_of_the_task_service_differ_in_the_package_alone():
    two, three = (descriptor_pb2.FileDescriptorProto() for _ in range(2))
    task_v2_pb2.DESCRIPTOR.CopyToProto(two)
    task_v3_pb2.DESCRIPTOR.CopyToProto(three)
    assert str(two).replace("task.v2", "task.v3").replace("task_v2", "task_v3") == str(three)


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (task_v2_pb2.CreateTaskRequest, "containerd.task.v2.CreateTaskRequest"),
        (task_v3_pb2.CreateTaskRequest, "containerd.task.v3.CreateTaskRequest"),
        (types_pb2.Mount, "containerd.types.Mount"),
        (types_pb2.Envelope, "containerd.types.Envelope"),
        (task_types_pb2.Process, "containerd.v1.types.Process"),
        (task_types_pb2.ProcessInfo, "containerd.v1.types.ProcessInfo"),
        (runc_options_pb2.Options, "containerd.runc.v1.Options"),
        (runc_options_pb2.CheckpointOptions, "containerd.runc.v1.CheckpointOptions"),
        (runc_options_pb2.ProcessDetails, "containerd.runc.v1.ProcessDetails"),
        (runtime_options_pb2.Options, "runtimeoptions.v1.Options"),
        (cgroups_v1_pb2.Metrics, "io.containerd.cgroups.v1.Metrics"),
        (cgroups_v2_pb2.Metrics, "io.containerd.cgroups.v2.Metrics"),
        (ttrpc_pb2.Request, "ttrpc.Request"),
        (ttrpc_pb2.Response, "ttrpc.Response"),
        (ocishim_pb2.InspectRequest, "ocishim.v1.InspectRequest"),
    ],
)
def test_type_urls_are_made_of_these_names(message, name):
    assert message.DESCRIPTOR.full_name == name


def test_the_task_service_has_every_method():
    service = task_v3_pb2.DESCRIPTOR.services_by_name["Task"]
    assert service.full_name == "containerd.task.v3.Task"
    assert sorted(service.methods_by_name) == sorted(
        [
            "State",
            "Create",
            "Start",
            "Delete",
            "Pids",
            "Pause",
            "Resume",
            "Checkpoint",
            "Kill",
            "Exec",
            "ResizePty",
            "CloseIO",
            "Update",
            "Wait",
            "Stats",
            "Connect",
            "Shutdown",
        ]
    )


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        # Written out by hand from the field tables: tag = number << 3 | wire type.
        (
            ttrpc_pb2.Request(service="s", method="m", payload=b"p", timeout_nano=1),
            "0a0173 12016d 1a0170 2001",
        ),
        (ttrpc_pb2.Request(metadata=[{"key": "k", "value": "v"}]), "2a06 0a016b 120176"),
        (ttrpc_pb2.Response(status={"code": 5, "message": "m"}, payload=b"p"), "0a05 0805 12016d 120170"),
        (task_v3_pb2.KillRequest(id="i", exec_id="e", signal=9, all=True), "0a0169 120165 1809 2001"),
        (task_v3_pb2.StateResponse(status=2, exit_status=3, exec_id="e"), "2002 4803 5a0165"),
        (task_v3_pb2.DeleteResponse(pid=1, exit_status=2, exited_at={"seconds": 3}), "0801 1002 1a020803"),
        (types_pb2.Mount(type="t", source="s", target="g", options=["o"]), "0a0174 120173 1a0167 22016f"),
        (runc_options_pb2.Options(binary_name="b", systemd_cgroup=True), "320162 4801"),
        (runtime_options_pb2.Options(config_body=b"x"), "1a0178"),
        (cgroups_v2_pb2.Metrics(memory={"usage": 1, "swap_max_usage": 2}), "2206 800201 a80202"),
        (cgroups_v1_pb2.Metrics(memory={"kernel_tcp": {"failcnt": 1}}), "2205 a202022001"),
    ],
)
def test_field_numbers(message, wire):
    assert message.SerializeToString(deterministic=True).hex() == wire.replace(" ", "")


def test_a_recorded_request_is_what_we_would_send():
    lines = (
        (Path(__file__).parents[1] / "golden" / "containerd-1.6-shim-requests.hex").read_text().splitlines()
    )
    payload = bytes.fromhex(lines[-1])[10:]
    request = ttrpc_pb2.Request.FromString(payload)
    assert (request.service, request.method) == ("containerd.services.events.ttrpc.v1.Events", "Forward")
    assert [(pair.key, pair.value) for pair in request.metadata] == [("containerd-namespace-ttrpc", "gold")]
    assert 0 < request.timeout_nano < 5 * 10**9
    assert request.SerializeToString() == payload
    # ForwardRequest { 1: envelope }
    envelope = types_pb2.Envelope.FromString(request.payload[2:])
    assert (envelope.namespace, envelope.topic) == ("gold", "/tasks/delete")
    assert envelope.event.type_url == "containerd.events.TaskDelete"


def test_recorded_answers():
    lines = (
        (Path(__file__).parents[1] / "golden" / "containerd-1.6-shim-responses.hex").read_text().splitlines()
    )
    frames = [bytes.fromhex(line)[10:] for line in lines if not line.startswith("#")]
    connect, state, service, *_ = map(ttrpc_pb2.Response.FromString, frames)
    assert task_v2_pb2.ConnectResponse.FromString(connect.payload).shim_pid == 6240
    assert (state.status.code, state.status.message) == (5, "container not created: not found")
    assert (service.status.code, service.status.message) == (12, "service none")
