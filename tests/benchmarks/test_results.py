"""The file of results: what is written is read again, and tells nothing of the machine but its kind."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from harness import results as module
from harness.results import Results, Value, factor, machine, show


def test_a_file_is_read_as_it_was_written(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    results.save(path)
    assert Results.load(path) == results


def test_a_file_has_medians_quartiles_and_ratios(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "r.json")
    state = json.loads((tmp_path / "r.json").read_text())["measures"]["State"]
    assert state["unit"] == "s"
    assert state["values"]["ocishim"] == {"median": 3e-05, "low": 3e-05, "high": 3e-05, "rounds": 3}
    assert state["ratio"] == {"containerd 1.6": 0.5, "containerd 2.1": 0.75}


def test_another_format_is_refused(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    results.save(path)
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="format 1"):
        Results.load(path)


def test_a_measure_that_nobody_explains_is_refused(results: Results) -> None:
    with pytest.raises(KeyError):
        results.add("no such measure", "s", {"ocishim": [1.0]})


def test_a_peer_without_samples_has_no_value(results: Results) -> None:
    results.add("Pids", "s", {"ocishim": [1.0], "conmon": []})
    assert list(results.measures["Pids"].values) == ["ocishim"]


def test_shown_is_in_the_order_of_the_list_of_measures(results: Results) -> None:
    assert [measure.name for measure in results.shown()] == ["start", "memory", "State"]


def test_value_of_samples() -> None:
    assert Value.of([5.0, 1.0, 3.0, 2.0, 4.0]) == Value(3.0, 2.0, 4.0, 5)
    assert Value.of([7.0]) == Value(7.0, 7.0, 7.0, 1)


def test_there_is_no_ratio_to_nothing(results: Results) -> None:
    results.add("own share of create to delete", "s", {"ocishim": [-0.001], "containerd 1.6": [0.0]})
    measure = results.measures["own share of create to delete"]
    assert measure.ratio("ocishim", "containerd 1.6") is None
    assert measure.ratio("ocishim", "containerd 2.1") is None


def test_the_machine_is_told_by_kind_only() -> None:
    told = json.dumps(machine())
    assert socket.gethostname() not in told
    assert os.uname().release not in told
    assert "/" not in told


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (2.5, "s", "2.5 s"),
        (0.0123, "s", "12.3 ms"),
        (0.123456, "s", "123 ms"),
        (0.00004, "s", "40 µs"),
        (-0.002, "s", "-2 ms"),
        (0, "s", "0 µs"),
        (5 << 20, "B", "5 MiB"),
        (1536, "B", "1.5 KiB"),
        (-4096, "B", "-4 KiB"),
        (1132, "lines", "1,132 lines"),
    ],
)
def test_numbers_are_shown_with_a_readable_unit(number: float, unit: str, text: str) -> None:
    assert show(number, unit) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.0213, "0.021 ×"), (0.85, "0.85 ×"), (1.9, "1.9 ×"), (33.4, "33 ×")]
)
def test_ratios_have_two_digits(ratio: float, text: str) -> None:
    assert factor(ratio) == text


def test_the_results_of_the_checkout_can_be_read() -> None:
    if module.PATH.exists():
        assert Results.load(module.PATH).measures
