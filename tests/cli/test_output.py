from __future__ import annotations

import json

import pytest

from shim.cli import output


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (64 << 20, "64.0 MiB"),
        ((1 << 40) - 1, "1024.0 GiB"),
        (1 << 62, "4.0 EiB"),
        (1 << 72, "4096.0 EiB"),
    ],
)
def test_sizes_are_for_people(number, text):
    assert output.size(number) == text


def test_a_table_in_a_pipe_is_not_cut(capsys):
    long = "x" * 500
    output.print_table(("ID", ">PID"), [(long, "7"), ("[bold]b", "12345")])
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["ID", "PID"]
    assert first == f"{long}      7"
    assert second.split() == ["[bold]b", "12345"]


def test_pairs_stand_below_each_other(capsys):
    output.print_pairs({"a": "1", "longer": "2"})
    assert capsys.readouterr().out == "a       1\nlonger  2\n"


def test_json_is_indented_or_one_line(capsys):
    output.print_json({"a": [1]})
    output.print_json_line({"a": [1]})
    text = capsys.readouterr().out
    assert json.loads(text[: text.rindex('{"a"')]) == {"a": [1]}
    assert text.endswith('{"a": [1]}\n')


def test_a_container_that_goes_on_is_announced_by_its_id(capsys):
    output.announce("c1", 42, as_json=False)
    output.announce("c1", 42, as_json=True)
    plain, obj = capsys.readouterr().out.splitlines()
    assert plain == "c1"
    assert json.loads(obj) == {"id": "c1", "pid": 42}
