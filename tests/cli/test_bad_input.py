"""What cannot work: one line that says what, which value and what to do, the right code, and nothing left behind."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager

import pytest

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


def _is_one_line(result, code, *said):
    assert result.code == code
    assert result.out == ""
    assert result.err.startswith("ocishim: ")
    assert result.err.count("\n") == 1
    for part in said:
        assert str(part) in result.err


@pytest.mark.parametrize("verb", ["run", "create"])
def test_a_bundle_that_is_none(ocishim, tmp_path, verb):
    _is_one_line(ocishim(verb, tmp_path / "none"), 125, tmp_path / "none", "does not exist", "ocishim spec")
    assert ocishim("list", "-q").out == ""


def test_a_broken_config_json(ocishim, bundle):
    made = bundle(["true"])
    (made / "config.json").write_text('{"ociVersion": "1.0.2",')
    _is_one_line(ocishim("run", made), 125, made / "config.json", "not valid JSON")


def test_an_unsupported_version(ocishim, bundle):
    _is_one_line(ocishim("run", bundle(["true"], ociVersion="2.0.0")), 125, "ociVersion 2.0.0")


def test_a_missing_root_filesystem(ocishim, bundle):
    _is_one_line(
        ocishim("run", bundle(["true"], root={"path": "/no/where"})), 125, "/no/where", "no directory"
    )


def test_an_unknown_runtime(ocishim, bundle):
    _is_one_line(ocishim("run", "--runtime", "nope", bundle(["true"])), 125, "'nope'", "installed: ")


def test_a_runtime_that_crashes(ocishim, bundle, tmp_path):
    crash = tmp_path / "crash"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    _is_one_line(ocishim("run", "--runtime", crash, bundle(["true"])), 125, "SIGSEGV")


def test_a_runtime_that_hangs_is_killed_at_the_deadline(ocishim, bundle, tmp_path, configuration):
    hang = tmp_path / "hang"
    hang.write_text('#!/bin/sh\ncase "$*" in *" create "*) exec sleep 1000;; esac\nexec runc "$@"\n')
    hang.chmod(0o755)
    configuration.write_text(configuration.read_text() + "runtime_timeout = 0.5")
    _is_one_line(ocishim("run", "--runtime", hang, bundle(["true"])), 125, "0.5 s")


def test_a_log_file_that_cannot_be_written(ocishim, bundle, tmp_path):
    made = bundle(["true"])
    _is_one_line(
        ocishim("run", "--log-file", tmp_path / "a" / "b", made), 125, tmp_path / "a" / "b", "No such file"
    )
    _is_one_line(ocishim("run", "--log-file", tmp_path, made), 125, tmp_path, "Is a directory")


def test_a_failed_run_takes_its_new_log_file_along(ocishim, bundle, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("mine")
    for log in (old, new):
        assert ocishim("run", "--log-file", log, bundle(["no-such-program"])).code == 127
    assert old.read_text() == "mine"
    assert not new.exists()


def test_less_cpu_than_there_can_be(ocishim, bundle):
    _is_one_line(ocishim("run", "--cpus", "0.0001", bundle(["true"])), 125, "least value is 1000000")


def test_containers_that_are_not_there(ocishim):
    for verb in (
        "state",
        "kill",
        "stop",
        "pause",
        "resume",
        "ps",
        "stats",
        "wait",
        "delete",
        "logs",
        "start",
    ):
        _is_one_line(ocishim(verb, "c9"), 1, "container c9 does not exist", "ocishim list")
    _is_one_line(ocishim("update", "--memory", "64m", "c9"), 1, "container c9 does not exist")
    for words in (("exec", "c9", "true"), ("attach", "c9"), ("start", "-a", "c9")):
        _is_one_line(ocishim(*words), 125, "container c9 does not exist")


def test_verbs_that_do_not_fit_the_state(ocishim, bundle):
    assert ocishim("create", bundle(["sleep", "1000"]), "c1") == (0, "c1\n", "")
    _is_one_line(ocishim("pause", "c1"), 1, "c1", "created")
    assert ocishim("start", "c1").code == 0
    _is_one_line(ocishim("start", "c1"), 1, "c1", "running")
    _is_one_line(ocishim("resume", "c1"), 1, "c1", "running")
    _is_one_line(ocishim("delete", "c1"), 1, "c1", "running")
    _is_one_line(ocishim("exec", "c1", "no-such-program"), 127, "no-such-program")
    _is_one_line(ocishim("exec", "c1", "/etc"), 126, "/etc")
    _is_one_line(ocishim("exec", "-w", "relative", "c1", "true"), 125, "relative")
    _is_one_line(ocishim("kill", "--exec", "none", "c1"), 1, "none")
    assert not list((ocishim.state_root / "containers" / "c1" / "exec").iterdir())
    assert ocishim("kill", "c1", "9").code == 0
    assert ocishim("wait", "c1").out == "137\n"
    _is_one_line(ocishim("kill", "c1"), 1, "c1", "finished")
    _is_one_line(ocishim("exec", "c1", "true"), 125, "c1", "stopped")
    assert ocishim("delete", "c1").code == 0


@contextmanager
def _small_disk(folder, spare):
    """A file system with ``spare`` bytes left."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], check=True)
    try:
        (folder / "fill").write_bytes(bytes((128 << 10) - spare))
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("spare", [4 << 10, 12 << 10])
def test_a_full_disk(ocishim, bundle, state_root, spare):
    """Wherever the room ends: while files are made here, or in the shim, or in the runtime."""
    made = bundle(["true"])
    with _small_disk(state_root / "disk", spare) as disk:
        _is_one_line(ocishim("--state-root", disk / "s", "run", made), 125, "No space left on device")
        left = {str(path.relative_to(disk)) for path in disk.rglob("*") if not path.is_dir()}
        assert left == {"fill"}
