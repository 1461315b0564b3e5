"""Configuration: read from TOML, overlaid, refused where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from shim.config import Config, load, overlay, section
from shim.errors import InvalidArgument, NotFound


def test_later_values_win() -> None:
    first = overlay(Config(), 'runtime = "crun"\nmemory_bytes = 1', "one")
    second = overlay(first, "memory_bytes = 2", "two")
    assert (second.runtime, second.memory_bytes) == ("crun", 2)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("runtime = ", "not valid TOML"),
        ('runtme = "crun"', "unknown key 'runtme'"),
        ("runtime = 3", "runtime = 3"),
        ("memory_bytes = -1", "memory_bytes = -1"),
        ("memory_bytes = true", "memory_bytes = True"),
        ('debug = "yes"', "debug = 'yes'"),
        ("runsc_config = { network = 1 }", "runsc_config"),
        ('group = "rack"', "container, pod, node"),
        ('cgroup_parent = "/a/../b"', "must not contain '..'"),
    ],
)
def test_what_is_wrong_is_named_with_its_origin(body: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        overlay(Config(), body, "some.toml")
    assert "some.toml" in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_seconds_are_times_too() -> None:
    assert overlay(Config(), "drain_timeout = 3", "here").drain_timeout == 3


def test_the_environment_names_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.toml"
    file.write_text('runtime = "runsc"')
    monkeypatch.setenv("OCISHIM_CONFIG", str(file))
    assert load().runtime == "runsc"


def test_a_file_that_was_asked_for_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        load(str(tmp_path / "none.toml"))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        load(str(file))


def test_tables_of_others_are_no_matter_of_the_shim(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('runtime = "crun"\n[daemon]\nanything = 1\n')
    assert load(str(file)).runtime == "crun"
    assert section("daemon", str(file)) == {"anything": 1}
    assert section("networks", str(file)) == {}


def test_a_table_has_to_be_one(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('daemon = "on"\n')
    with pytest.raises(InvalidArgument, match="daemon = 'on' is no table"):
        section("daemon", str(file))
