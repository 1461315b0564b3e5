import copy
import json
import os
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.errors import InvalidArgument
from shim.oci import spec
from shim.oci.schema import to_json

ORIGIN = "config.json of /b"


def document(**changes):
    raw = spec.default_spec(["sh", "-c", "true"], terminal=False)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = raw
        for key in parents:
            place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
        place[last] = value
    return raw


def parse(raw):
    return spec.parse(to_json(raw), ORIGIN)


def test_view_of_a_full_document():
    raw = document(
        root={"path": "rootfs", "readonly": True},
        annotations={"a": "b"},
        linux__cgroupsPath="/x/y",
        linux__resources={"memory": {"limit": 5}},
        process__terminal=True,
        unknown={"kept": [1]},
    )
    view = parse(raw)
    assert view.raw == raw
    assert view.origin == ORIGIN
    assert view.process == raw["process"]
    assert view.terminal is True
    assert view.root_path == "rootfs"
    assert view.annotations == {"a": "b"}
    assert view.cgroups_path == "/x/y"
    assert view.resources == {"memory": {"limit": 5}}
    assert view.pid_namespace == "private"


def test_view_of_the_least_document():
    least = {"ociVersion": "1.0.0", "process": {"args": ["x"], "cwd": "/"}, "root": {"path": "r"}}
    for raw in (least, {**least, "linux": None, "mounts": None, "annotations": None, "hostname": None}):
        view = parse(raw)
        assert (view.annotations, view.resources) == ({}, {})
        assert (view.cgroups_path, view.terminal) == ("", False)
        assert view.pid_namespace == "shared"


def test_a_pid_namespace_to_join():
    raw = document(linux__namespaces=[{"type": "mount"}, {"type": "pid", "path": "/proc/7/ns/pid"}])
    assert parse(raw).pid_namespace == "/proc/7/ns/pid"


def test_without_the_path_of_a_pid_namespace():
    others = [{"type": "mount"}, {"type": "network", "path": "/proc/7/ns/net"}]
    for pid, left in (({"type": "pid", "path": "/proc/7/ns/pid"}, []), ({"type": "pid"}, [{"type": "pid"}])):
        raw = document(linux__namespaces=[*others, pid])
        assert spec.without_pid_path(raw)["linux"]["namespaces"] == [*others, *left]
        assert raw["linux"]["namespaces"] == [*others, pid]


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.2.1", "1.99.0", "1.1.0+dev", "1.0.0-rc5"])
def test_versions_that_work(version):
    assert parse(document(ociVersion=version)).raw["ociVersion"] == version


@pytest.mark.parametrize("version", ["2.0.0", "0.9.0", "1", "1.0", "one", "11.0.0", "1.0.x"])
def test_versions_that_do_not(version):
    text = f"{ORIGIN}: ociVersion {version} is not supported; 1.0.0 to 1.x are"
    with pytest.raises(InvalidArgument, match=re.escape(text)):
        parse(document(ociVersion=version))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ociVersion": None}, "ociVersion is missing: it must be a non-empty string"),
        ({"ociVersion": 1}, "ociVersion must be a non-empty string, got 1"),
        ({"process": None}, "process is missing: it must be an object"),
        ({"process__args": []}, "process.args must be a non-empty list of strings, got []"),
        ({"process__args": "sh"}, 'process.args must be a non-empty list of strings, got "sh"'),
        ({"process__args": ["a", "b\0"]}, "process.args[1] must be a string without a NUL character"),
        ({"process__cwd": ""}, 'process.cwd must be an absolute path, got ""'),
        ({"process__env": {"A": "b"}}, 'process.env must be a list of NAME=value strings, got {"A": "b"}'),
        ({"process__env": ["A\0=b"]}, "process.env[0] must be NAME=value without a NUL character"),
        ({"root": None}, "root is missing: it must be an object"),
        ({"root__path": ""}, 'root.path must be a non-empty string, got ""'),
        ({"root__path": "a\0b"}, "root.path must be a non-empty string without a NUL character"),
        ({"root__readonly": "no"}, 'root.readonly must be true or false, got "no"'),
        ({"hostname": 5}, "hostname must be a string, got 5"),
        ({"mounts": {}}, "mounts must be a list of objects, got {}"),
        ({"mounts": [{"type": "proc"}]}, "mounts[0].destination is missing: it must be a non-empty string"),
        ({"mounts": [{"destination": "/a", "options": "ro"}]}, "mounts[0].options must be a list of strings"),
        ({"hooks": {"prestart": [{"path": "x"}]}}, "hooks.prestart[0].path must be an absolute path, got"),
        ({"annotations": {"a.b": 1}}, 'annotations["a.b"] must be a string, got 1'),
        (
            {"linux__namespaces": [{"type": "pidd"}]},
            "linux.namespaces[0].type must be one of cgroup, ipc, mount",
        ),
        ({"linux__namespaces": [{"type": "pid"}] * 2}, "linux.namespaces has 'pid' more than once"),
        ({"linux__cgroupsPath": 1}, "linux.cgroupsPath must be a string, got 1"),
        ({"linux__resources": {"cpu": {"quota": "1"}}}, "linux.resources.cpu.quota must be a whole number"),
        ({"linux__sysctl": {"a": 1}}, "linux.sysctl.a must be a string, got 1"),
        ({"linux__devices": [{"path": "/dev/x"}]}, "linux.devices[0].type is missing"),
        ({"linux__uidMappings": [{"containerID": 0}]}, "linux.uidMappings[0].hostID is missing"),
    ],
)
def test_broken_documents(changes, text):
    with pytest.raises(InvalidArgument, match=re.escape(f"{ORIGIN}: {text}")) as caught:
        parse(document(**changes))
    assert "\n" not in str(caught.value)


def test_not_json():
    with pytest.raises(InvalidArgument, match=re.escape(f"{ORIGIN} is not valid JSON: line 2 column 1: ")):
        spec.parse(b'{"a":\n', ORIGIN)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
PLACES = [
    "ociVersion", "process", "process__args", "process__env", "process__user", "process__rlimits", "root", "mounts",
    "hooks", "annotations", "linux", "linux__namespaces", "linux__resources", "linux__resources__memory",
]  # fmt: skip


@given(place=st.sampled_from(PLACES), value=JUNK)
def test_whatever_is_accepted_can_be_looked_at(place, value):
    try:
        view = parse(document(**{place: value}))
    except InvalidArgument:
        return
    for name in dir(spec.Spec):
        if not name.startswith("_"):
            getattr(view, name)
    assert spec.with_absolute_paths(view.raw, "/b")
    assert spec.with_resources(view.raw, {"pids": {"limit": 1}})


@pytest.fixture
def raw():
    raw = document(annotations={"a": "b"})
    before = copy.deepcopy(raw)
    yield raw
    assert raw == before


def test_absolute_paths(raw):
    mounts = [
        {"destination": "/a", "type": "bind", "source": "data"},
        {"destination": "/b", "type": "none", "source": "data", "options": ["rbind", "ro"]},
        {"destination": "/c", "type": "bind", "source": "/abs"},
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/d", "type": "tmpfs"},
    ]
    changed = spec.with_absolute_paths({**raw, "mounts": mounts}, "/bundles/x")
    assert changed["root"] == {"path": "/bundles/x/rootfs", "readonly": True}
    assert [mount.get("source") for mount in changed["mounts"]] == [
        "/bundles/x/data",
        "/bundles/x/data",
        "/abs",
        "proc",
        None,
    ]
    assert spec.with_absolute_paths(changed, "/other") == changed


def test_limits_and_groups(raw):
    changed = spec.with_resources(raw, {"memory": {"limit": 7}})
    assert changed["linux"]["resources"] == {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": {"limit": 7},
    }
    assert parse(spec.with_cgroups_path(changed, "/g")).cgroups_path == "/g"
    assert spec.with_resources({"linux": None}, {"a": 1})["linux"] == {"resources": {"a": 1}}


def test_terminal_and_annotations(raw):
    assert parse(spec.with_terminal(raw, terminal=True, size=(3, 4))).process["consoleSize"] == {
        "height": 3,
        "width": 4,
    }
    assert spec.with_annotation(raw, "c", "d")["annotations"] == {"a": "b", "c": "d"}
    assert spec.with_annotation({}, "c", "d")["annotations"] == {"c": "d"}


@pytest.mark.parametrize("rootless", [False, True])
def test_default_is_what_runc_writes(tmp_path, rootless):
    if not shutil.which("runc"):
        pytest.skip("runc is not installed")
    subprocess.run(["runc", "spec", *(["--rootless"] if rootless else [])], cwd=tmp_path, check=True)
    theirs = json.loads((tmp_path / "config.json").read_bytes())
    ours = spec.default_spec(rootless=rootless, uid=os.geteuid(), gid=os.getegid())
    assert parse(ours).raw == ours
    for one in (ours, theirs):
        one["linux"]["namespaces"] = {entry["type"] for entry in one["linux"]["namespaces"]} - {"cgroup"}
        for key in ("ociVersion", "hostname"):
            del one[key]
        for key in ("maskedPaths", "capabilities"):
            one["linux"].pop(key, None)
        del one["process"]["capabilities"]
    assert ours == theirs


def test_a_hook_for_a_network_namespace_of_ones_own_comes_first_and_once():
    hook, other = {"path": "/h"}, {"path": "/o"}
    raw = document(
        linux__namespaces=[{"type": "network"}], hooks={"createRuntime": [other], "poststop": [other]}
    )
    once = spec.with_network_hook(raw, hook)
    assert once["hooks"] == {"createRuntime": [hook, other], "poststop": [other]}
    assert spec.with_network_hook(once, hook) == once
    parse(once)


@pytest.mark.parametrize("namespaces", [[], [{"type": "network", "path": "/run/netns/n"}], [{"type": "pid"}]])
def test_somebody_elses_network_namespace_gets_no_hook(namespaces):
    raw = document(linux__namespaces=namespaces)
    assert spec.with_network_hook(raw, {"path": "/h"}) == raw
