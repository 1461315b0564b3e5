"""Argument lists, as lists: what each runtime is really called with."""

from __future__ import annotations

import pytest

from shim.errors import InvalidArgument, Unimplemented
from shim.runtime.crun import CrunCommandLine, refuses_hierarchy
from shim.runtime.options import CheckpointOptions
from shim.runtime.runc import RuncCommandLine
from shim.runtime.runsc import RunscCommandLine

LOG = ["--log", "/proc/self/fd/3", "--log-format", "json"]
RUNC = RuncCommandLine(binary="/usr/sbin/runc", root="/run/r")
CRUN = CrunCommandLine(binary="/usr/bin/crun", root="/run/c")
RUNSC = RunscCommandLine(binary="/usr/bin/runsc", root="/run/g")
PREFIX = {
    "runc": ["/usr/sbin/runc", "--root", "/run/r", *LOG],
    "crun": ["/usr/bin/crun", "--root", "/run/c", *LOG],
    "runsc": ["/usr/bin/runsc", "--root", "/run/g", *LOG],
}
LINES = {"runc": RUNC, "crun": CRUN, "runsc": RUNSC}
FULL = CheckpointOptions(
    image_path="/img",
    work_path="/work",
    parent_path="../before",
    leave_running=True,
    tcp_established=True,
    external_unix_sockets=True,
    shell_job=True,
    file_locks=True,
    cgroups_mode="soft",
)
FULL_FLAGS = [
    *("--image-path", "/img", "--work-path", "/work"),
    *("--tcp-established", "--ext-unix-sk", "--shell-job", "--file-locks", "--manage-cgroups-mode", "soft"),
]


@pytest.mark.parametrize("kind", LINES)
def test_the_verbs_that_all_have(kind):
    line, prefix = LINES[kind], PREFIX[kind]
    assert line.create("id", "/b", pid_file="/p", console_socket=None) == [
        *prefix,
        *("create", "--bundle", "/b", "--pid-file", "/p", "id"),
    ]
    assert line.create("id", "/b", pid_file="/p", console_socket="/s") == [
        *prefix,
        *("create", "--bundle", "/b", "--pid-file", "/p", "--console-socket", "/s", "id"),
    ]
    assert line.start("id") == [*prefix, "start", "id"]
    assert line.kill("id", 15) == [*prefix, "kill", "id", "15"]
    assert line.kill("id", 9, all_processes=True) == [*prefix, "kill", "--all", "id", "9"]
    assert line.delete("id") == [*prefix, "delete", "id"]
    assert line.delete("id", force=True) == [*prefix, "delete", "--force", "id"]
    assert line.state("id") == [*prefix, "state", "id"]
    assert line.list() == [*prefix, "list", "--format", "json"]
    assert line.ps("id") == [*prefix, "ps", "--format", "json", "id"]
    assert line.pause("id") == [*prefix, "pause", "id"]
    assert line.resume("id") == [*prefix, "resume", "id"]
    assert line.update("id") == [*prefix, "update", "--resources", "-", "id"]
    assert line.stats("id") == [*prefix, "events", "--stats", "id"]
    assert line.features() == [*prefix, "features"]
    assert line.version() == [prefix[0], "--version"]


@pytest.mark.parametrize("kind", ["runc", "crun"])
def test_exec(kind):
    call = ["exec", "--process", "/j", "--detach", "--pid-file", "/p"]
    line, prefix = LINES[kind], PREFIX[kind]
    assert line.exec("id", "/j", pid_file="/p", console_socket=None) == [*prefix, *call, "id"]
    assert line.exec("id", "/j", pid_file="/p", console_socket="/s") == [
        *prefix,
        *call,
        *("--console-socket", "/s", "id"),
    ]


def test_runsc_exec_leaves_the_pid_in_the_sandbox_too():
    assert RUNSC.exec("id", "/j", pid_file="/p", console_socket="/s") == [
        *PREFIX["runsc"],
        *("exec", "--process", "/j", "--detach", "--pid-file", "/p", "--console-socket", "/s"),
        *("--internal-pid-file", "/p.inner", "id"),
    ]


def test_runsc_has_commands_of_its_own():
    assert RUNSC.kill_process("id", 7, 15) == [*PREFIX["runsc"], "kill", "--pid", "7", "id", "15"]
    assert RUNSC.wait("id") == [*PREFIX["runsc"], "wait", "id"]


def test_debug_is_a_global_flag():
    line = RuncCommandLine(binary="/runc", root="/r", debug=True)
    assert line.start("id") == ["/runc", "--root", "/r", *LOG, "--debug", "start", "id"]


def test_pivot_root_and_keyring_can_be_left_out():
    line = RuncCommandLine(binary="/runc", root="/r", no_pivot_root=True, no_new_keyring=True)
    created = line.create("id", "/b", pid_file="/p", console_socket=None)
    assert created[-3:] == ["--no-pivot", "--no-new-keyring", "id"]
    restored = line.restore(
        "id", "/b", CheckpointOptions(image_path="/i"), pid_file="/p", console_socket=None
    )
    assert restored[-2:] == ["--no-pivot", "id"]


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        (RuncCommandLine(binary="/r", root="/", cgroups="systemd"), "--systemd-cgroup"),
        (CrunCommandLine(binary="/r", root="/", cgroups="systemd"), "--systemd-cgroup"),
        (CrunCommandLine(binary="/r", root="/", cgroups="disabled"), "--cgroup-manager=disabled"),
        (RunscCommandLine(binary="/r", root="/", cgroups="systemd"), "--systemd-cgroup=true"),
        (RunscCommandLine(binary="/r", root="/", cgroups="disabled"), "--ignore-cgroups=true"),
    ],
)
def test_who_makes_the_cgroup(line, flag):
    assert line.start("id")[-3:] == [flag, "start", "id"]


def test_runc_cannot_do_without_cgroups():
    with pytest.raises(InvalidArgument, match="/runc cannot run containers without cgroups"):
        RuncCommandLine(binary="/runc", root="/", cgroups="disabled")


def test_crun_can_run_without_sight_of_the_v2_hierarchy():
    line = CrunCommandLine(binary="/crun", root="/r", hide_v2=True)
    assert line.start("id") == [
        *("unshare", "--mount", "--propagation", "unchanged", "sh", "-c"),
        'mount --make-private "$0" && umount --lazy "$0/unified" && exec "$@"',
        *("/sys/fs/cgroup", "/crun", "--root", "/r", *LOG, "start", "id"),
    ]
    assert line.version() == ["/crun", "--version"]


@pytest.mark.parametrize(
    ("controllers", "refused"), [("hugetlb\n", True), ("\n", False), ("", False), (None, False)]
)
def test_crun_refuses_hybrid_hosts_with_v2_controllers(tmp_path, controllers, refused):
    if controllers is not None:
        (tmp_path / "unified").mkdir()
        (tmp_path / "unified" / "cgroup.controllers").write_text(controllers)
    assert refuses_hierarchy(str(tmp_path)) is refused


def test_runsc_flags_come_before_the_verb_and_the_users_last():
    line = RunscCommandLine(
        binary="/runsc",
        root="/r",
        platform="ptrace",
        network="none",
        config=(("network", "host"), ("net-raw", "true")),
    )
    assert line.start("id") == [
        *("/runsc", "--root", "/r", *LOG),
        *("--platform=ptrace", "--network=none", "--network=host", "--net-raw=true", "start", "id"),
    ]


def test_runsc_config_cannot_take_the_shims_own_flags():
    with pytest.raises(InvalidArgument, match="'log'"):
        RunscCommandLine(binary="/runsc", root="/r", config=(("log", "/tmp/log"),))


def test_checkpoint_with_every_option():
    more = ["--parent-path", "../before", "--leave-running", "id"]
    for kind in ("runc", "crun"):
        assert LINES[kind].checkpoint("id", FULL) == [*PREFIX[kind], "checkpoint", *FULL_FLAGS, *more]


def test_checkpoint_with_no_option():
    plain = CheckpointOptions(image_path="/img")
    for kind, line in LINES.items():
        assert line.checkpoint("id", plain) == [*PREFIX[kind], "checkpoint", "--image-path", "/img", "id"]


def test_restore_with_every_option():
    place = ["restore", "--bundle", "/b", "--pid-file", "/p", "--console-socket", "/s", "--detach"]
    assert RUNC.restore("id", "/b", FULL, pid_file="/p", console_socket="/s") == [
        *PREFIX["runc"],
        *place,
        "--no-subreaper",
        *FULL_FLAGS,
        "id",
    ]
    assert CRUN.restore("id", "/b", FULL, pid_file="/p", console_socket="/s") == [
        *PREFIX["crun"],
        *place,
        *FULL_FLAGS,
        "id",
    ]


def test_empty_namespaces_are_runcs_alone():
    options = CheckpointOptions(image_path="/img", empty_namespaces=("network", "ipc"))
    flags = ["--image-path", "/img", "--empty-ns", "network", "--empty-ns", "ipc", "id"]
    assert RUNC.checkpoint("id", options)[-len(flags) :] == flags
    for line in (CRUN, RUNSC):
        with pytest.raises(Unimplemented):
            line.checkpoint("id", options)
        with pytest.raises(Unimplemented):
            line.restore("id", "/b", options, pid_file="/p", console_socket=None)


def test_runsc_checkpoints_say_what_they_cannot():
    options = CheckpointOptions(image_path="/img", work_path="/ignored", leave_running=True)
    assert RUNSC.checkpoint("id", options)[-4:] == ["--image-path", "/img", "--leave-running", "id"]
    assert RUNSC.restore("id", "/b", options, pid_file="/p", console_socket=None) == [
        *PREFIX["runsc"],
        *("restore", "--bundle", "/b", "--pid-file", "/p", "--detach", "--image-path", "/img", "id"),
    ]
    with pytest.raises(Unimplemented, match="no parent_path, tcp_established"):
        RUNSC.checkpoint("id", FULL)
