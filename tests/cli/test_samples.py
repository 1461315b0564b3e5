"""Each sample bundle under each runtime, by the command line."""

from __future__ import annotations

import pexpect
import pytest
from support.bed import CHECKOUT, until

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

BUNDLES = CHECKOUT / "bundles"


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ("hello", "Hello from a container."),
        ("readonly", "read-only"),
        ("user", "uid=1000"),
    ],
)
def test_a_sample_that_ends_by_itself(ocishim, runtime, sample, said):
    code, out, err = ocishim("run", "--rm", "--runtime", runtime, BUNDLES / sample)
    assert (code, err) == (0, "")
    assert said in out


@pytest.mark.parametrize(
    ("sample", "said", "last"),
    [
        ("counter", "out 1\n", "counter: SIGTERM at"),
        ("limits", "burning CPU\n", "burning CPU"),
    ],
)
def test_a_sample_that_goes_on_until_it_is_told(ocishim, runtime, sample, said, last):
    name = f"{sample}-{runtime}"
    assert ocishim("run", "-d", "--runtime", runtime, BUNDLES / sample, name).code == 0
    until(lambda: said in ocishim("logs", name).out, f"{sample} never said {said!r}")
    assert ocishim("stop", name).code == 0
    assert ocishim("wait", name).out == "0\n"
    assert last in ocishim("logs", name).out
    assert ocishim("delete", name).code == 0


def test_the_shell(program, runtime):
    command, *options = program
    words = [*options, "run", "-t", "--rm", "--runtime", runtime, str(BUNDLES / "shell")]
    person = pexpect.spawn(command, words, timeout=30, encoding="utf-8")
    person.expect("/ # ")
    person.sendline("echo $((6 * 7)); exit 4")
    person.expect("42")
    person.expect(pexpect.EOF)
    person.close()
    assert person.exitstatus == 4


def test_every_sample_is_run_here():
    there = {folder.name for folder in BUNDLES.iterdir() if (folder / "config.json").exists()}
    assert there == {"hello", "readonly", "user", "counter", "limits", "shell"}
