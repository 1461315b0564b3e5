"""Runtimes that crash, hang, vanish, say nothing or say too much."""

from __future__ import annotations

from pathlib import Path

import pytest

from shim.config import Config
from shim.errors import DeadlineExceeded, NotFound, ShimError, Unimplemented, Unknown
from shim.runtime import driver_for
from shim.runtime.driver import version_of


@pytest.fixture
def failing(run, script, tmp_path):
    """``failing(body, call, kind)`` is the text of the error that a runtime doing ``body`` makes of ``call``."""

    def go(body: str, call, kind: type[ShimError], timeout: float = 20) -> str:
        binary = script(body, "runc")

        async def main(reaper):
            config = Config(runtime=binary, state_root=str(tmp_path), runtime_timeout=timeout)
            with pytest.raises(ShimError) as caught:
                await call(await driver_for(config, "ns", reaper))
            assert type(caught.value) is kind, caught.value
            return str(caught.value)

        return run(main)

    return go


def start(driver):
    return driver.start("c1")


def create(driver):
    return driver.create("c1", "/nonexistent", stdio_fds=(0, 1, 1), pid_file="/nonexistent/pid")


def test_a_crash_names_its_signal(failing):
    assert failing("kill -SEGV $$", start, Unknown) == "runc start c1 was killed by SIGSEGV"
    assert (
        failing("echo boom >&2; kill -ABRT $$", start, Unknown) == "runc start c1 was killed by SIGABRT: boom"
    )


@pytest.mark.parametrize("call", [start, create])
def test_a_hang_names_the_deadline(leaks, failing, call):
    text = failing("sleep 1000", call, DeadlineExceeded, timeout=0.2)
    assert text.startswith("runc ")
    assert text.endswith(" c1 did not end within 0.2 s and was killed")


def test_silence_is_told(failing):
    text = failing("exit 7", create, Unknown)
    assert text == "OCI runtime create failed: runc create c1 exited with 7 and logged nothing"


def test_standard_error_stands_in_for_the_log(failing):
    assert (
        failing("echo 'open /x: odd' >&2; exit 1", start, Unknown) == "OCI runtime start failed: open /x: odd"
    )


def test_pages_of_help_are_a_missing_command(failing):
    help_text = "echo 'Usage: runsc <flags> <subcommand> <subcommand args>'; echo; seq 1000"
    text = failing(f"({help_text}) >&2; exit 128", lambda driver: driver.features(), Unimplemented)
    assert text.endswith("/runc has no command 'features' with these options")


def test_output_that_is_no_json_is_shown(failing):
    text = failing("echo nonsense", lambda driver: driver.state("c1"), Unknown)
    assert text == "OCI runtime state printed no JSON: b'nonsense\\n'"
    text = failing("echo '[]'", lambda driver: driver.state("c1"), Unknown)
    assert text == "OCI runtime state printed [] instead of an object"
    text = failing("echo '{}'", lambda driver: driver.ps("c1"), Unknown)
    assert text.startswith("OCI runtime ps printed")


def test_a_runtime_that_was_removed_is_named(failing):
    def call(driver):
        Path(driver.binary).unlink()
        return start(driver)

    assert "/runc: No such file" in failing("true", call, NotFound)


def test_null_is_an_empty_list(run, script, tmp_path):
    binary = script("echo null", "runc")
    (tmp_path / "ns").mkdir()

    async def body(reaper):
        driver = await driver_for(Config(runtime=binary, runtime_root=str(tmp_path)), "ns", reaper)
        assert await driver.list() == []
        assert await driver.ps("c1") == []

    run(body)


@pytest.mark.parametrize(
    ("output", "version"),
    [(b"runc version 1.1.5+ds1\ncommit: x\n", "1.1.5+ds1"), (b"youki 0.3.0\n", "0.3.0"), (b"", "")],
)
def test_version_of(output, version):
    assert version_of(output) == version
