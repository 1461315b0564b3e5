from __future__ import annotations

import pytest

from shim.cli.each import for_each
from shim.containers.containers import Containers
from shim.errors import NotFound


def test_one_that_fails_keeps_nobody_else_from_being_done(tmp_path, capsys):
    containers = Containers(str(tmp_path))
    containers.claim("a")
    containers.claim("b")
    done = []
    with pytest.raises(NotFound, match="container y"):
        for_each(("a", "x", "b", "y"), lambda name: done.append(containers.get(name).id))
    assert done == ["a", "b"]
    assert capsys.readouterr().err.startswith("ocishim: container x does not exist")
