"""The sentences of runc 1.1.5 and 1.3.6, crun 1.8.1 and 1.28, runsc 20221219 and 20240729, as they print them."""

from __future__ import annotations

import pytest

from shim.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unimplemented,
    Unknown,
)
from shim.runtime.failure import error_for, exec_exit_code

UNKNOWN_CONTAINER = [
    "container does not exist",
    "exec failed: container does not exist",
    "error opening file `/run/crun/t1/status`: No such file or directory",
    "container `t1` does not exist: open `/run/crun/t1/status`: No such file or directory",
    "loading container: file does not exist",
    'loading container "t1": file does not exist',
    "loading sandbox: file does not exist",
]
GONE = [
    "container not running",
    "open pidfd: No such process",
    "process not running: No such process",
    "the container `t1` is not running",
    "sandbox is not running",
    'cannot signal container "t1" in state stopped',
    "connecting to control server at PID 11545: connection refused",
    "failed to signal pid 3: no such process",
    "os: process already finished",
]
WRONG_STATE = [
    ("start", "cannot start an already running container"),
    ("start", "cannot start a container that has stopped"),
    ("start", "cannot open `/run/crun/t1/exec.fifo`: No such file or directory"),
    ("start", "container `t1` is not running"),
    ("start", 'starting container: cannot start container "t1" in state running'),
    ("delete", "cannot delete container t1 that is not stopped: running"),
    ("delete", "the container `t1` is not in `created` or `stopped` state"),
    ("delete", "cannot delete container that is not stopped without --force flag"),
    ("pause", "container not running"),
    ("pause", "the container `t1` is not running: No such process"),
    ("pause", 'pause failed: cannot pause container "t1" in state paused'),
    ("resume", "container not paused"),
    ("resume", 'resume failed: cannot resume container "t1" in state running'),
    ("exec", "exec failed: cannot exec in a stopped container"),
    ("exec", "exec failed: cannot exec in a paused container (use --ignore-paused to override)"),
    ("exec", "the container `t1` is paused"),
    ("exec", 'executing processes for container: cannot execute in container "t1" in state stopped'),
    ("exec", 'executing command "true" in sandbox: container "t1" not started'),
    ("ps", 'getting processes for container: cannot get processes of container "t1" in state created'),
    ("kill", 'cannot signal container "t1" in state created'),
    ("update", "container not running"),
    ("checkpoint", "Container cannot be checkpointed in stopped state"),
    ("checkpoint", 'checkpoint failed: cannot checkpoint container "t1" in state stopped'),
]
CODES = [
    *(
        (verb, text, NotFound)
        for text in UNKNOWN_CONTAINER
        for verb in ("start", "exec", "kill", "state", "update")
    ),
    ("delete", "cannot open directory '/run/crun/t1': No such file or directory", NotFound),
    ("delete", "cannot open directory `/run/crun/t1`: No such file or directory", NotFound),
    *(("kill", text, NotFound) for text in GONE),
    *((verb, text, FailedPrecondition) for verb, text in WRONG_STATE),
    ("create", "runc create failed: container with given ID already exists", AlreadyExists),
    ("create", "container `t1` already exists", AlreadyExists),
    (
        "create",
        "creating container: cannot lock container metadata file: container already exists",
        AlreadyExists,
    ),
    ("create", "runc create failed: invalid container ID format", InvalidArgument),
    ("create", "invalid character `/` in the container ID `a/b`", InvalidArgument),
    ("create", "creating container: invalid container id: a/b", InvalidArgument),
    ("kill", "unable to signal init: invalid argument", InvalidArgument),
    ("kill", "send signal to pidfd: Invalid argument", InvalidArgument),
    ("kill", 'unknown signal "34"', InvalidArgument),
    ("update", "writing file `cpu.cfs_quota_us`: Invalid argument", InvalidArgument),
    ("update", "invalid character 'g' looking for beginning of value", InvalidArgument),
    ("update", "cannot parse the data: unexpected character at position 0", InvalidArgument),
    ("features", "unknown command features", Unimplemented),
    ("create", "runc create failed: mkdir /run/runc/t1: no space left on device", ResourceExhausted),
    ("create", "fork: Cannot allocate memory", ResourceExhausted),
    # About the bundle, not about containers:
    ("create", "runc create failed: invalid rootfs: stat /b/rootfs: no such file or directory", Unknown),
    ("create", "open `rootfs`: No such file or directory", Unknown),
    ("create", "dial unix /s: connect: no such file or directory", Unknown),
    ("create", "error running hook #0: daemon is not running", Unknown),
    ("exec", 'exec: "/bin/x": stat /bin/x: no such file or directory', Unknown),
]


@pytest.mark.parametrize(("verb", "text", "error"), CODES)
def test_the_text_decides(verb, text, error):
    made = error_for(verb, text)
    assert type(made) is error
    assert str(made) == f"OCI runtime {verb} failed: {text}"


EXIT_CODES = [
    ('unable to start container process: exec: "nope": executable file not found in $PATH', 127),
    ('error during container init: exec: "/nope/x": stat /nope/x: no such file or directory', 127),
    ('exec: "/bin/notexec": permission denied', 126),
    ('error during container init: exec: "/bin/adir": is a directory', 126),
    ('exec: "/bin/busybox/x": stat /bin/busybox/x: not a directory', 126),
    ("executable file `nope` not found in $PATH: No such file or directory", 127),
    ("executable file `/nope/x` not found: No such file or directory", 127),
    ("open executable: Permission denied", 126),
    ("open executable: Operation not permitted", 126),
    ("the path `/bin/notexec` exists but it is not executable: Operation not permitted", 126),
    ("open `/bin/busybox/x`: Not a directory", 126),
    ("the path `/bin/adir` is not a regular file: Operation not permitted", 126),
    ('starting sandbox: error finding executable "nope" in PATH [/bin]: no such file or directory', 127),
    ("starting sandbox: creating process: failed to load /nope/x: no such file or directory", 127),
    ('executing command "/bin/x" in sandbox: failed to load /bin/x: permission denied', 126),
    ("creating process: failed to load /bin/x: exec format error", 126),
    ('failed to find initial working directory "/nodir": no such file or directory', None),
    ('chdir to cwd ("/bin/busybox") set in config.json failed: not a directory', None),
    ("container does not exist", None),
    ("runc create failed: invalid rootfs: stat /b/rootfs: no such file or directory", None),
    ("error mounting /a to rootfs at /b: permission denied", None),
]


@pytest.mark.parametrize(("text", "code"), EXIT_CODES)
def test_a_shells_exit_code(text, code):
    assert exec_exit_code(f"OCI runtime create failed: {text}") == code
