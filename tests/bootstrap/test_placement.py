"""Which group a container belongs to, and what a new shim process gets beside its socket."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.shims import raises

from shim.bootstrap import placement
from shim.bootstrap.placement import group_of, join_cgroup, raise_oom_score
from shim.errors import FailedPrecondition, InvalidArgument, ShimError

# On a busy machine everything is slow.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

RUNC, CRI = "io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"


def annotated(folder: Path, annotations: object) -> Path:
    (folder / "config.json").write_text(json.dumps({"annotations": annotations}))
    return folder


@pytest.mark.parametrize(
    ("group", "annotations", "wanted"),
    [
        ("pod", {CRI: "pod1"}, "pod1"),
        ("pod", {RUNC: "g"}, "g"),
        ("pod", {CRI: "pod1", RUNC: "g"}, "g"),
        ("pod", {CRI: "pod1", RUNC: ""}, "pod1"),
        ("pod", {"other": "x"}, "c1"),
        ("pod", {}, "c1"),
        ("pod", None, "c1"),
        ("container", {CRI: "pod1"}, "c1"),
        ("node", {CRI: "pod1"}, "node"),
    ],
)
def test_the_setting_and_the_annotations_decide(tmp_path, group, annotations, wanted):
    assert group_of(annotated(tmp_path, annotations), "c1", group) == wanted


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", '{"annotations": 5}', "\xff", "[" * 100_000])
def test_a_config_json_that_is_none_is_for_create_to_refuse(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    assert group_of(tmp_path, "c1", "pod") == "c1"


def test_without_a_config_json(tmp_path):
    assert group_of(tmp_path, "c1", "pod") == "c1"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@untimed
@given(st.dictionaries(st.sampled_from([RUNC, CRI, "x"]), JSON))
def test_every_annotation_makes_a_name(tmp_path_factory, annotations):
    folder = annotated(tmp_path_factory.getbasetemp(), annotations)
    name = group_of(folder, "c1", "pod")
    assert isinstance(name, str)
    assert name


@pytest.mark.root
@pytest.mark.parametrize(("ours", "wanted"), [(100, 101), (1000, 1000)])
def test_the_oom_score_is_one_above_the_parents(monkeypatch, ours, wanted):
    with subprocess.Popen(["sleep", "100"]) as parent, subprocess.Popen(["sleep", "100"]) as child:
        try:
            Path(f"/proc/{parent.pid}/oom_score_adj").write_text(str(ours))
            monkeypatch.setattr(os, "getppid", lambda: parent.pid)
            raise_oom_score(child.pid, os.getppid())
            assert int(Path(f"/proc/{child.pid}/oom_score_adj").read_text()) == wanted
        finally:
            parent.kill()
            child.kill()


def test_without_the_privilege_the_oom_score_stays(monkeypatch):
    """Only root may write that of pid 1; nobody may set one for a process that is gone."""
    monkeypatch.setattr(os, "getppid", lambda: 1)
    raise_oom_score(2**22, os.getppid())


@pytest.mark.root
def test_the_cgroup_of_the_shim(cgroups):
    """Made in every hierarchy, cpuset included, whose new groups let nobody in."""
    path = f"{cgroups.path}/a/b"
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            join_cgroup(process.pid, path)
            found = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
        finally:
            process.kill()
    controllers = [line for line in found if not line.startswith("0:") or len(found) == 1]
    assert controllers
    assert [line for line in controllers if not line.endswith(path)] == []


def test_no_cgroup_is_asked_for():
    join_cgroup(2**22, "")


@pytest.mark.parametrize("path", ["../x", "/a/../../b", "a\0b"])
def test_a_cgroup_outside_of_the_hierarchy(path):
    with raises(InvalidArgument, "shim_cgroup"):
        join_cgroup(os.getpid(), path)


@pytest.mark.root
def test_a_process_that_is_gone_joins_nothing(monkeypatch, tmp_path):
    with pytest.raises(ShimError, match="shim_cgroup"):
        join_cgroup(2**22 + 1, "/")


def test_no_hierarchy(monkeypatch):
    from shim.cgroup import hierarchy  # noqa: PLC0415 - to be replaced where join_cgroup looks

    monkeypatch.setattr(hierarchy, "detect", lambda: hierarchy.Hierarchy("none"))
    with raises(FailedPrecondition, "no cgroup hierarchy"):
        placement.join_cgroup(os.getpid(), "/x")
