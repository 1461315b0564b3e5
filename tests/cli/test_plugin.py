"""Plugins of the catalog by the command line."""

from __future__ import annotations

import json

import pytest

from shim.catalog import Catalog
from shim.cli.verbs.plugin import command

SHA = "ab" * 32
IMAGE = [f"-sha256={SHA}", "-oci_image=registry/p"]


@pytest.fixture
def kept(ocishim, tmp_path):
    return Catalog("filesystem", str(tmp_path / "data"))


def test_what_vaults_command_line_prints(ocishim):
    ocishim("runtime", "register", "r1")
    said = ocishim(
        "plugin",
        "register",
        *IMAGE,
        "-version=1.2",
        "-runtime=r1",
        "-args=-x",
        "--args",
        "y z",
        "secret",
        "mine",
    )
    assert said == (0, "Success! Registered plugin: mine\n", "")
    assert ocishim("plugin", "info", "-version=v1.2.0", "secret", "mine").out == (
        "Key          Value\n"
        "---          -----\n"
        "args         [-x y z]\n"
        "builtin      false\n"
        "command      n/a\n"
        "name         mine\n"
        "oci_image    registry/p\n"
        "runtime      r1\n"
        f"sha256       {SHA}\n"
        "version      v1.2.0\n"
    )
    assert (
        ocishim("plugin", "info", "-version=1.2", "-field=oci_image", "secret", "mine").out == "registry/p\n"
    )
    ocishim("plugin", "register", *IMAGE, "auth", "other")
    assert ocishim("plugin", "list").out == (
        "Name     Type      Version\n"
        "----     ----      -------\n"
        "other    auth      n/a\n"
        "mine     secret    v1.2.0\n"
    )
    assert ocishim("plugin", "list", "-detailed", "secret").out == (
        "Name    Type      Version    OCI Image     Runtime    SHA256\n"
        "----    ----      -------    ---------     -------    ------\n"
        f"mine    secret    v1.2.0     registry/p    r1         {SHA}\n"
    )
    said = ocishim("plugin", "deregister", "-version=1.2", "secret", "mine")
    assert said == (0, "Success! Deregistered plugin (if it was registered): mine\n", "")
    assert ocishim("plugin", "deregister", "secret", "mine").code == 0
    assert [each["name"] for each in json.loads(ocishim("plugin", "list", "-format=json").out)] == ["other"]


def test_without_image_and_command_the_name_is_the_command(ocishim, kept):
    assert ocishim("plugin", "register", f"-sha256={SHA}", "secret", "mine").code == 0
    assert kept.plugin("secret", "mine").command == "mine"
    assert ocishim("plugin", "register", f"-sha256={SHA}", "-command=/bin/p -x", "secret", "mine").code == 0
    assert kept.plugin("secret", "mine").args == ("-x",)
    assert ocishim("plugin", "register", *IMAGE, "secret", "mine").code == 0
    assert kept.plugin("secret", "mine").command == ""


def test_the_environment_is_kept_and_not_shown(ocishim, kept, monkeypatch):
    monkeypatch.setenv("FROM_HERE", "secret-1")
    ocishim("plugin", "register", *IMAGE, "-env=A=secret-2", "-env=FROM_HERE", "secret", "mine")
    assert kept.plugin("secret", "mine").env == ("A=secret-2", "FROM_HERE=secret-1")
    for words in (
        ("info", "secret", "mine"),
        ("info", "--json", "secret", "mine"),
        ("list", "-detailed", "--json"),
    ):
        assert "secret-" not in ocishim("plugin", *words).out


def test_a_value_may_look_like_an_option(ocishim, kept):
    words = ["-args", "-runtime", "-args=--env", "--args", "--", "-command", "-version"]
    assert ocishim("plugin", "register", *IMAGE, *words, "--", "secret", "mine").code == 0
    assert kept.plugin("secret", "mine").args == ("-runtime", "--env", "--")
    assert kept.plugin("secret", "mine").command == "-version"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["register", "secret", "mine"], 2, "missing option '--sha256'"),
        (["register", *IMAGE, "mine"], 2, "'mine' is not one of 'auth', 'database', 'secret'"),
        (["register", *IMAGE, "secret"], 2, "missing argument 'NAME'"),
        (["register", "-sha256=abc", "-oci_image=i", "secret", "mine"], 1, "64 digits are needed"),
        (["register", *IMAGE, "-version=x", "secret", "mine"], 1, '"x" is not a valid semantic version'),
        (["register", *IMAGE, "-version=1+builtin", "secret", "mine"], 1, "reserved metadata identifier"),
        (["register", *IMAGE, "-env==x", "secret", "mine"], 2, "'=x' is no variable"),
        (["register", *IMAGE, "secret", "../mine"], 1, "plugin name '../mine': use letters"),
        (
            ["register", *IMAGE, "-runtime=nope", "secret", "mine"],
            1,
            'runtime "nope": plugin runtime not found',
        ),
        (["info", "secret", "mine"], 1, "secret plugin mine: plugin not found"),
        (["info", "-version=x", "secret", "mine"], 1, "valid semantic version"),
        (["deregister", "unknown", "mine"], 2, "'unknown' is not one of"),
        (["list", "unknown"], 2, "'unknown' is not one of"),
        (["nope"], 2, "no such command 'nope'"),
    ],
)
def test_what_cannot_be(ocishim, words, code, said):
    result = ocishim("plugin", *words)
    assert (result.code, result.out) == (code, "")
    assert said in result.err
    assert result.err.startswith("ocishim: ")
    assert result.err.count("\n") == 1
    assert ocishim("plugin", "list", "--json").out == "[]\n"


def test_a_version_that_is_not_asked_for_is_named(ocishim):
    ocishim("plugin", "register", *IMAGE, "-version=1.2", "secret", "mine")
    assert ocishim("plugin", "info", "secret", "mine").err == (
        "ocishim: secret plugin mine: plugin not found; there is v1.2.0\n"
    )


def test_every_command_explains_itself(ocishim):
    with command.make_context("plugin", ["list"]) as ctx:
        names = command.list_commands(ctx)
    assert {"register", "info", "list", "deregister"} <= {*names}
    for name in names:
        assert ocishim("plugin", name, "--help").out.startswith(f"Usage: ocishim plugin {name} ")
    assert ocishim("plugin", "info", "-help").out == ocishim("plugin", "info", "--help").out
