"""The unit files, as systemd reads them."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys

import pytest
from support.bed import CHECKOUT

from shim.daemon.activation import NAMES

UNITS = sorted((CHECKOUT / "deploy" / "systemd").iterdir())


def parsed(path):
    parser = configparser.ConfigParser(interpolation=None, strict=True, delimiters=("=",))
    parser.optionxform = str
    parser.read_string(path.read_text())
    return parser


def test_there_are_some():
    assert {path.suffix for path in UNITS} == {".service", ".socket"}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_has_nothing_to_say(path, tmp_path):
    if shutil.which("systemd-analyze") is None:
        assert parsed(path).sections()  # all that can be said without it
        return
    for unit in UNITS:
        # The program need not be installed where the tests run.
        text = unit.read_text().replace("/usr/local/bin/ocishim", sys.executable)
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / path.name],
        capture_output=True,
        text=True,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "ocishim" in line]
    assert ours == []


def test_sockets_have_the_names_that_the_daemon_knows():
    names = {parsed(path)["Socket"]["FileDescriptorName"] for path in UNITS if path.suffix == ".socket"}
    assert names == set(NAMES)


def test_containers_outlive_the_daemon():
    (service,) = (parsed(path) for path in UNITS if path.suffix == ".service")
    assert service["Service"]["KillMode"] == "process"
    assert service["Service"]["Type"] == "notify"
