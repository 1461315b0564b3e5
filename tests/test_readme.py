"""Every command of README.md runs, and prints what README says it prints.

A block of kind ``console`` is one session of one shell. A line that begins with ``$ `` is a command; what follows is its output,
in which ``...`` stands for anything. A command must succeed, or the block says ``||``.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from support import bed, go_plugin
from support.oci_images import make_image

from shim.image import Images

TOP = Path(__file__).resolve().parents[1]
README = (TOP / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```console\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def steps_of(block: str) -> list[tuple[str, str]]:
    """The commands of a block, each with the output that it is to have."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def matches(expected: str, output: str) -> bool:
    # Alone on a line it stands for any number of lines, none included.
    parts = re.split(r"(^\.\.\.\n|\.\.\.)", expected, flags=re.MULTILINE)
    pattern = "".join(".*" if part.startswith("...") else re.escape(part) for part in parts)
    return re.fullmatch(pattern, output, re.DOTALL) is not None


def test_there_is_something_to_run() -> None:
    assert len(BLOCKS) >= 4
    assert all(steps_of(block) for block in BLOCKS)


def test_every_option_in_the_text_exists() -> None:
    # Commands that are named in running text are not run; that they exist is seen here.
    named = set(re.findall(r"`ocishim ([a-z]+)", README))
    shown = subprocess.run(
        ["ocishim", "--help"], capture_output=True, text=True, check=True, env=environment()
    ).stdout
    assert named
    assert all(re.search(rf"^  {verb} ", shown, re.MULTILINE) for verb in named), named


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{TOP}/.venv/bin:{os.environ['PATH']}", "COLUMNS": "120"}


PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.root
def test_the_program(state_root: Path, tmp_path: Path, leaks: object) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'state_root = "{state_root}"\ndata_root = "{tmp_path}/data"\n', encoding="utf-8")
    ran = run_program(PROGRAMS[0], config)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.split()
    for said in ("40 100", "README.md sandbox.yaml", "exit code 3 through a container exit code 137"):
        assert said in " ".join(lines)


def run_program(program: str, config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [f"{TOP}/.venv/bin/python", "-X", "dev", "-W", "error", "-c", program],
        cwd=TOP,
        env={**environment(), "OCISHIM_CONFIG": str(config)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.root
def test_the_plugin(state_root: Path, tmp_path: Path, leaks: object) -> None:
    """The example's words are replaced by those of the plugin that there is."""
    bed.need(go_plugin.is_there(), "Go is not installed: apt-get install golang-go")
    layout = make_image(tmp_path / "layout", {"plugin": go_plugin.built()}, {"Entrypoint": ["/plugin"]})
    Images(tmp_path / "data").import_(layout, "example/greeter:1.0")
    config = tmp_path / "config.toml"
    config.write_text(f'state_root = "{state_root}"\ndata_root = "{tmp_path}/data"\n', encoding="utf-8")
    program = PROGRAMS[1]
    for word, instead in (
        ("BASIC_PLUGIN", go_plugin.COOKIE[0]),
        ("hello", go_plugin.COOKIE[1]),
        ("/example.Greeter/Greet", f"/{go_plugin.SERVICE}/Getenv"),
        ("world", "PLUGIN_UNIX_SOCKET_DIR"),
    ):
        assert f'"{word}"' in program
        program = program.replace(f'"{word}"', f'"{instead}"')
    ran = run_program(program, config)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "/tmp/go-plugin-container\n", "")


@pytest.mark.root
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: steps_of(block)[0][0][:40])
def test_block(block: str, state_root: Path, tmp_path: Path, leaks: object) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'state_root = "{state_root}"\ndata_root = "{tmp_path}/data"\n', encoding="utf-8")
    env = {**environment(), "OCISHIM_CONFIG": str(config)}
    for command, expected in steps_of(block):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=TOP,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        assert matches(expected, done.stdout), f"$ {command}\n{done.stdout}\nexpected:\n{expected}"
