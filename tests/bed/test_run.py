"""`tests/run` ends with the truth: a line for each part, and a status that says whether all passed."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest
from support import bed


def run(*parts, args=""):
    env = {**os.environ, "ARGS": args}
    command = [bed.CHECKOUT / "tests" / "run", *parts]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("body", "options", "status", "line"),
    [
        ("assert True", "", 0, "host  1 passed in "),
        ("assert False", "", 1, "host  FAILED: 1 failed in "),
        ("assert True", "-k 'neither or nor'", 0, "host  1 deselected in "),
        ("import os; os._exit(3)", "", 1, "host  FAILED: exit status 3"),
    ],
)
def test_the_last_line_and_the_status_tell_the_result(body, options, status, line, tmp_path):
    file = tmp_path / "test_it.py"
    file.write_text(f"def test_it():\n    {body}\n")
    result = run("host", args=f"-p no:cacheprovider {options} {shlex.quote(str(file))}")
    assert result.stdout.splitlines()[-1].startswith(line)
    assert result.returncode == status


def test_parts_run_together_and_each_has_its_line():
    result = run("host", "root", args="-p no:cacheprovider -q tests/oci/test_identifiers.py")
    assert [line.split(maxsplit=1)[0] for line in result.stdout.splitlines()[-2:]] == ["host", "root"]
    assert result.stdout.count(" passed in ") == 4
    assert result.returncode == 0


def test_an_unknown_part_is_refused():
    result = run("moon")
    assert (result.returncode, result.stderr) == (2, "run: no part named 'moon': host, root, guest\n")
