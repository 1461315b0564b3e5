from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import click
import pytest

from shim.cli import app, exit_codes
from shim.cli.app import SECTIONS, cli, run
from shim.errors import NotFound

VERBS = {name: line for verbs in SECTIONS.values() for name, line in verbs.items()}


def _replace_verb(monkeypatch, action):
    """``ocishim list`` does ``action`` instead."""
    command = click.Command("list", callback=action)
    monkeypatch.setattr(import_module("shim.cli.verbs.list"), "command", command)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    assert run([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: ocishim {verb} ")
    assert "-h, --help" in text


def test_help_lists_every_verb_and_the_exit_codes(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for name, line in VERBS.items():
        assert f"{name} " in text
        assert line in text
    for code in (125, 126, 127, 141):
        assert f"  {code}  " in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope"], "no such command 'nope'; see: ocishim --help"),
        (["list", "--nope"], "no such option '--nope'; see: ocishim list --help"),
        (["kill"], "missing argument 'ID'; see: ocishim kill --help"),
        (["kill", "a/b"], "invalid value for 'ID': container id 'a/b' may only have letters"),
        (["kill", "..", "9"], "invalid value for 'ID': container id '..' means a directory"),
        (["kill", "a" * 1025], "has 1025 characters"),
        (["kill", "c1", "NOPE"], "invalid value for 'SIGNAL': 'NOPE' is no signal"),
        (["kill", "--all", "--exec", "e", "c1"], "--all and --exec exclude each other"),
        (["exec", "-d", "-i", "c1", "sh"], "leave out -i"),
        (["exec", "-u", "nobody", "c1", "sh"], "user 'nobody' is not a numeric uid"),
        (["exec", "-e", "NOT_SET_ANYWHERE", "c1", "sh"], "NOT_SET_ANYWHERE is not set here"),
        (["exec", "-e", "=x", "c1", "sh"], "'=x' is no variable"),
        (["run", "--memory", "much", "b"], "memory size 'much'"),
        (["run", "--cpus", "1", "--cpu-nanos", "1", "b"], "give one"),
        (["update", "c1"], "no limit is given"),
    ],
)
def test_a_command_line_that_cannot_be_right_is_one_line_and_2(words, said, capsys, tmp_path):
    assert run(["--state-root", str(tmp_path), *words]) == exit_codes.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ocishim: ")
    assert said in err
    assert err.count("\n") == 1


def test_without_a_verb_there_is_help_and_2(capsys):
    assert run([]) == exit_codes.USAGE
    assert "Usage: ocishim" in capsys.readouterr().err


def test_an_error_is_one_line(monkeypatch, capsys):
    def fail():
        raise NotFound("what: value;\n  do this")

    _replace_verb(monkeypatch, fail)
    assert run(["list"]) == exit_codes.ERROR
    assert capsys.readouterr().err == "ocishim: what: value; do this\n"


def test_debug_adds_the_traceback(monkeypatch, capsys):
    def fail():
        raise NotFound("what")

    _replace_verb(monkeypatch, fail)
    run(["--debug", "list"])
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("\nocishim: what\n")


def test_a_fault_of_our_own_is_one_line_too(monkeypatch, capsys):
    _replace_verb(monkeypatch, lambda: 1 / 0)
    assert run(["list"]) == exit_codes.ERROR
    assert capsys.readouterr().err.startswith("ocishim: a fault of ocishim itself: ZeroDivisionError: ")


def test_an_operating_system_error_names_the_path(monkeypatch, capsys):
    _replace_verb(monkeypatch, lambda: open("/nowhere/x"))  # noqa: SIM115 - fails
    assert run(["list"]) == exit_codes.ERROR
    assert "/nowhere/x: No such file or directory" in capsys.readouterr().err


def test_ctrl_c_is_130(monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    _replace_verb(monkeypatch, interrupt)
    assert run(["list"]) == exit_codes.INTERRUPTED


def test_failures_of_a_foreground_verb_have_codes_of_their_own():
    for message, code in {
        'exec: "x": executable file not found in $PATH': 127,
        'exec: "/etc": permission denied': 126,
        "the runtime is sick": 125,
    }.items():
        with pytest.raises(exit_codes.Failure) as caught, exit_codes.foreground():
            raise NotFound(message)
        assert caught.value.exit_code == code
        assert str(caught.value) == message


def test_a_broken_configuration_is_named_and_help_works_without(tmp_path, capsys):
    file = tmp_path / "config.toml"
    file.write_text("runtime = 3")
    assert run(["--config", str(file), "run", "--help"]) == 0
    assert run(["--config", str(file), "list"]) == exit_codes.ERROR
    assert f"ocishim: {file}: runtime = 3 is not a valid str\n" in capsys.readouterr().err
    assert run(["--config", str(tmp_path / "none"), "list"]) == exit_codes.ERROR


def test_a_reader_that_goes_away_is_no_error():
    script = f"{sys.executable} -m shim --help | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout in {"141\n", "0\n"}  # 0: all was written before head ended
    assert result.stderr == ""


def test_closed_standard_descriptors_are_not_taken_for_others():
    script = f"exec {sys.executable} -m shim list >&- 2>&- <&-"
    assert subprocess.run(["bash", "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "forbidden"),
    [
        (["--version"], ("asyncio", "google.protobuf", "rich", "shim.transport", "json")),
        (["--help"], ("asyncio", "google.protobuf", "rich", "shim.cli.verbs.run")),
        (["list", "-q"], ("asyncio", "google.protobuf", "rich")),
        (["list", "--json"], ("asyncio", "rich")),
        (["run", "--help"], ("asyncio", "rich", "subprocess")),
    ],
)
def test_start_up_imports_no_more_than_it_must(words, forbidden, tmp_path):
    script = (
        "import sys; from shim.cli.app import run; run(sys.argv[1:]); "
        "print('loaded:', *sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, "--state-root", str(tmp_path), *words]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(result.stderr.rpartition("loaded:")[2].split())
    assert loaded.isdisjoint(forbidden)


def test_python_m_shim_is_the_same_program():
    result = subprocess.run(
        [sys.executable, "-m", "shim", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"ocishim, version {app.__version__}\n"


def test_ids_are_completed(tmp_path, monkeypatch, capsys):
    for name in ("web-1", "web-2", "db"):
        (tmp_path / "containers" / name).mkdir(parents=True)
    monkeypatch.setenv("_OCISHIM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"ocishim --state-root {tmp_path} delete web-1 we")
    monkeypatch.setenv("COMP_CWORD", "5")
    with pytest.raises(SystemExit):
        app.main()
    assert capsys.readouterr().out.split() == ["plain,web-2"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell, capsys):
    assert run(["completion", shell]) == 0
    assert f"_OCISHIM_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_the_group_knows_no_other_modules_as_verbs():
    with cli.make_context("ocishim", ["list"]) as ctx:
        assert cli.get_command(ctx, "containers") is None
        assert cli.list_commands(ctx) == list(VERBS)
