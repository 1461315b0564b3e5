"""``ocishim image`` as a user has it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tomllib
from pathlib import Path

import pexpect
import pytest
from support import bed
from support.oci_images import archive, layer, make_image, make_layout, member

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

CONFIG = {
    "Entrypoint": ["/bin/hello", "two words"],
    "Env": ["A=b"],
    "User": "app",
    "WorkingDir": "/w",
    "Labels": {"a": "\x1b[2J"},
}


@pytest.fixture
def data(configuration):
    """Where images are kept, as the configuration says."""
    return Path(tomllib.loads(configuration.read_text())["data_root"])


@pytest.fixture
def layout(tmp_path):
    return make_image(tmp_path / "l", {"bin/hello": b"#!/bin/sh\n"}, CONFIG, name="x.test/hello:1")


def test_from_import_to_removal(ocishim, data, layout, tmp_path):
    imported = ocishim("image", "import", layout)
    assert (imported.code, imported.err) == (0, "")
    image_id = imported.out.strip()
    about = json.loads(ocishim("image", "import", "--json", archive(layout, tmp_path / "a.tar"), "again").out)
    assert (about["id"], about["names"]) == (image_id, ["x.test/hello:1", "again:latest"])
    header, *lines = ocishim("image", "list").out.splitlines()
    assert header.split() == ["NAME", "ID", "DIGEST", "SIZE", "IMPORTED"]
    assert [line.split()[:2] for line in lines] == [[name, image_id[7:19]] for name in about["names"]]
    assert json.loads(ocishim("image", "list", "--json").out) == [about]
    assert json.loads(ocishim("image", "inspect", "--json", f"again@{image_id}").out) == about
    shown = ocishim("image", "inspect", image_id).out
    assert "'two words'" in shown
    assert "\x1b" not in shown
    assert ocishim("image", "remove", "again") == (0, "", "")
    assert ocishim("image", "remove", "x.test/hello:1") == (0, "", "")
    assert json.loads(ocishim("image", "list", "--json").out) == []


def test_the_image_before(ocishim, data, layout, tmp_path):
    before = ocishim("image", "import", layout, "hello").out
    ocishim("image", "import", make_image(tmp_path / "new", {"x": b""}), "hello")
    assert ocishim("image", "prune") == (0, before, "")
    assert ocishim("image", "prune") == (0, "", "")
    assert len(json.loads(ocishim("image", "list", "--json").out)) == 1


def test_unpack(ocishim, data, layout, tmp_path):
    bed.need(shutil.which("umoci"), "umoci is not installed: apt-get install umoci")
    ocishim("image", "import", layout)
    assert ocishim("image", "unpack", "x.test/hello:1", tmp_path / "rootfs") == (0, "", "")
    assert (tmp_path / "rootfs" / "bin" / "hello").exists()
    again = ocishim("image", "unpack", "x.test/hello:1", tmp_path / "rootfs")
    assert (again.code, again.out) == (1, "")
    assert again.err == f"ocishim: {tmp_path}/rootfs is no empty directory\n"


def test_what_cannot_be(ocishim, data, layout, tmp_path):
    evil = make_layout(tmp_path / "evil", [layer([member("../x", b"")])])
    for words, said in (
        (("import", tmp_path / "none"), "none"),
        (("import", layout, "--digest", "0" * 64), "and not sha256:000"),
        (("import", evil), "entry '../x' is refused"),
        (("import", "containerd://x"), "names no image"),
        (("inspect", "none"), "image none:latest does not exist"),
        (("remove", "none"), "does not exist"),
        (("unpack", "none", tmp_path / "r"), "does not exist"),
    ):
        done = ocishim("image", *words)
        assert (done.code, done.out) == (1, ""), words
        assert done.err.startswith("ocishim: ")
        assert done.err.count("\n") == 1
        assert said in done.err
    for words, said in (
        (("import",), "PATH"),
        (("import", layout, "NO"), "is no name of an image"),
        (("import", layout, "--digest", "abc"), "is no digest"),
        (("inspect", "NO"), "is no name of an image"),
        (("unpack", "a@b", tmp_path / "r"), "is no digest"),
    ):
        done = ocishim("image", *words)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), words
        assert said in done.err
    assert not [p for p in data.rglob("*") if not p.is_dir()]


def test_a_shell_completes_names(ocishim, data, layout, program, configuration):
    ocishim("image", "import", layout)
    env = {
        **os.environ,
        "_OCISHIM_COMPLETE": "bash_complete",
        "COMP_WORDS": "ocishim image remove x",
        "COMP_CWORD": "3",
    }
    main = "import sys; from shim.cli import main; main()"
    done = subprocess.run([program[0], "-c", main], env=env, stdout=subprocess.PIPE, text=True, check=False)
    assert done.stdout == "plain,x.test/hello:1\n"


def test_a_terminal_sees_how_far_it_is(program, data, layout):
    child = pexpect.spawn(
        program[0], [*program[1:], "image", "import", str(layout)], encoding="utf-8", timeout=60
    )
    child.expect("looking through layer 1 of 1")
    child.expect("sha256:[0-9a-f]{64}")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_ctrl_c_leaves_nothing(program, data, tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ctr").write_text(f"#!/bin/sh\ntouch {tmp_path}/began\nexec sleep 1000\n")
    (programs / "ctr").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    process = subprocess.Popen(
        [*program, "image", "import", "containerd://default/x:1"], stderr=subprocess.PIPE
    )
    bed.until((tmp_path / "began").exists, "ctr was not started")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 130
    assert list((data / "images").iterdir()) == []
