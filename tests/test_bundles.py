"""The sample bundles: what they have in common, and that each runs as it is under each runtime, without ocishim."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from support import bed

BUNDLES = sorted(p.parent for p in (bed.CHECKOUT / "bundles").glob("*/config.json"))
SHORT = {
    "hello": "Hello from a container.\n",
    "readonly": "touch: /written: Read-only file system\n/ is read-only, /tmp is not\n",
    "user": "uid=1000(user) gid=1000(user)\n",
}


def config(folder):
    return json.loads((folder / "config.json").read_text())


def test_each_bundle_has_its_line_in_the_readme():
    readme = (bed.CHECKOUT / "bundles" / "README.md").read_text()
    assert [b.name for b in BUNDLES] == ["counter", "hello", "limits", "readonly", "shell", "user"]
    assert all(f"| `{b.name}` |" in readme for b in BUNDLES)


def test_bundles_differ_only_in_what_they_show():
    shown = {
        "process": ("args", "terminal", "user", "env", "cwd"),
        "root": ("readonly",),
    }
    bare = []
    for folder in BUNDLES:
        spec = config(folder)
        assert spec.pop("hostname") == folder.name
        for part, keys in shown.items():
            spec[part] = {key: value for key, value in spec[part].items() if key not in keys}
        spec["mounts"] = [m for m in spec["mounts"] if m["destination"] != "/tmp"]
        bare.append(spec)
    assert all(spec == bare[0] for spec in bare)


def command(runtime: str, state_root) -> list[str]:
    """The runtime with the options it needs to run anything on this machine."""
    path = bed.need_runtime(runtime)
    if runtime == "runsc":
        return [
            path,
            f"--root={state_root}",
            "--platform=ptrace",
            "--network=none",
            "--ignore-cgroups",
            "run",
            "--bundle",
        ]
    own = [path, "--root", str(state_root), "run", "--bundle"]
    if runtime == "crun" and (bed.CGROUP / "unified").is_dir():
        # crun 1.8 refuses a hybrid host whose v2 mount has controllers. Out of its sight, the host is a legacy one.
        hide = 'umount "$0" && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", hide, str(bed.CGROUP / "unified"), *own]
    return own


@pytest.mark.root
@pytest.mark.parametrize("name", SHORT)
def test_runs_without_ocishim(name, runtime, state_root, leaks):
    bed.rootfs()
    argv = [
        *command(runtime, state_root),
        bed.CHECKOUT / "bundles" / name,
        f"sample-{name}-{state_root.name}",
    ]
    result = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    assert result.stdout == SHORT[name]
    for folder in state_root.iterdir():  # runc and runsc leave empty folders or lock files of their own
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink()


@pytest.mark.parametrize("broken", ["busybox", "cp"])
def test_a_failed_build_of_the_root_leaves_nothing(broken, tmp_path):
    tools, out = tmp_path / "tools", tmp_path / "out"
    tools.mkdir()
    out.mkdir()
    (tools / broken).write_text("#!/bin/sh\nexit 1\n")
    (tools / broken).chmod(0o755)
    env = {"PATH": f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin"}
    script = bed.CHECKOUT / "bundles" / "build-rootfs"
    result = subprocess.run([script, out / "rootfs"], env=env, capture_output=True, check=False)
    assert result.returncode != 0
    assert list(out.iterdir()) == []
