"""``ocishim daemon`` on the command line; what it serves is tried in tests/daemon."""

from __future__ import annotations

import builtins
import os
import sys

import pytest

from shim.cli import exit_codes
from shim.cli.app import run


@pytest.mark.parametrize("missing", ["uvicorn", "starlette", "prometheus_client"])
def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys, tmp_path, missing):
    for name in list(sys.modules):
        if name.startswith(("shim.daemon", "shim.catalog.api")):
            monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert run(["--state-root", str(tmp_path), "daemon"]) == exit_codes.ERROR
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert err[0].startswith(f"ocishim: the daemon needs {missing}")
    assert err[0].endswith("pip install 'ocishim[daemon]'")
    assert not list(tmp_path.iterdir())


def test_a_socket_of_systemd_that_cannot_be_is_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "x")
    assert run(["--state-root", str(tmp_path), "daemon"]) == exit_codes.ERROR
    assert capsys.readouterr().err == "ocishim: LISTEN_FDS = 'x' is no number\n"


@pytest.mark.parametrize("words", [["daemon", "x"], ["daemon", "--port", "1"]])
def test_words_that_mean_nothing(words, capsys):
    assert run(words) == exit_codes.USAGE
    assert "see: ocishim daemon --help" in capsys.readouterr().err
