from __future__ import annotations

import click
import pytest

from shim.cli.verbs.update import command, resources_of
from shim.errors import InvalidArgument


def _resources(*words):
    """What the command line ``words`` asks for."""
    with command.make_context("update", ["c1", *words]) as ctx:
        return resources_of(ctx.params)


@pytest.mark.parametrize(
    ("words", "resources"),
    [
        (["--memory", "64m"], {"memory": {"limit": 64 << 20}}),
        (["--memory", "max", "--memory-swap", "max"], {"memory": {"limit": -1, "swap": -1}}),
        (["--memory-reservation", "1k"], {"memory": {"reservation": 1024}}),
        (["--cpus", "1.5"], {"cpu": {"quota": 150_000, "period": 100_000}}),
        (["--cpu-nanos", "500000000"], {"cpu": {"quota": 50_000, "period": 100_000}}),
        (["--cpus", "max"], {"cpu": {"quota": -1}}),
        (["--cpu-shares", "512", "--cpuset-cpus", "0-1"], {"cpu": {"shares": 512, "cpus": "0-1"}}),
        (["--cpuset-mems", "0"], {"cpu": {"mems": "0"}}),
        (["--pids-limit", "-1"], {"pids": {"limit": -1}}),
        (["--cpu-weight", "200"], {"unified": {"cpu.weight": "200"}}),
        ([], {}),
    ],
)
def test_options_become_linux_resources(words, resources):
    assert _resources(*words) == resources


def test_two_ways_to_say_the_same_exclude_each_other():
    with pytest.raises(click.UsageError, match="give one"):
        _resources("--cpus", "1", "--cpu-nanos", "1000000000")


def test_less_cpu_than_the_kernel_can_give_names_the_least():
    with pytest.raises(InvalidArgument, match="least"):
        _resources("--cpus", "0.0001")


@pytest.mark.parametrize("words", [["--cpu-weight", "0"], ["--memory", "lots"], ["--pids-limit", "-2"]])
def test_what_cannot_be_a_limit_is_a_usage_error(words):
    with pytest.raises(click.BadParameter):
        _resources(*words)
