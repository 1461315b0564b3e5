from __future__ import annotations

import os

import pytest

from shim.cli.app import run
from shim.oci import spec


@pytest.mark.parametrize("words", [[], ["--rootless"]])
def test_what_is_written_is_a_valid_document(tmp_path, words, capsys):
    assert run(["spec", "--bundle", str(tmp_path / "new"), *words]) == 0
    file = tmp_path / "new" / "config.json"
    written = spec.parse(file.read_bytes(), str(file))
    assert written.process["args"] == ["sh"]
    assert written.terminal
    mappings = written.raw["linux"].get("uidMappings", [])
    assert [m["hostID"] for m in mappings] == ([os.geteuid()] if words else [])
    assert capsys.readouterr() == ("", "")


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "config.json").write_text("mine")
    assert run(["spec", "-b", str(tmp_path)]) == 1
    assert (tmp_path / "config.json").read_text() == "mine"
    assert f"{tmp_path}/config.json exists already; remove it first" in capsys.readouterr().err
