from __future__ import annotations

import json

import pytest

from shim.containers import bundle
from shim.errors import InvalidArgument, NotFound, ShimError
from shim.oci.spec import default_spec


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b" / "rootfs").mkdir(parents=True)
    return tmp_path / "b"


def _write(folder, text):
    (folder / "config.json").write_text(text if isinstance(text, str) else json.dumps(text))


def test_the_derived_bundle_means_the_same_elsewhere(folder, tmp_path):
    spec = default_spec(terminal=False)
    spec["mounts"].append({"destination": "/data", "type": "bind", "source": "data", "options": ["bind"]})
    _write(folder, spec)
    bundle.derive(bundle.read(folder), folder, tmp_path, terminal=True)
    derived = json.loads((tmp_path / "config.json").read_text())
    assert derived["root"]["path"] == str(folder / "rootfs")
    assert derived["mounts"][-1]["source"] == str(folder / "data")
    assert derived["process"]["terminal"] is True


def test_what_is_not_there_is_named_with_a_hint(tmp_path, folder):
    with pytest.raises(NotFound, match=rf"bundle {tmp_path}/none does not exist; .*ocishim spec --bundle"):
        bundle.read(tmp_path / "none")
    with pytest.raises(
        NotFound, match=rf"{folder}/config.json does not exist; .*ocishim spec --bundle {folder}"
    ):
        bundle.read(folder)


def test_a_missing_root_filesystem_is_named(folder):
    _write(folder, default_spec(rootfs="elsewhere"))
    with pytest.raises(
        NotFound, match=rf"root.path elsewhere of .*config.json is no directory; .*{folder}/elsewhere"
    ):
        bundle.read(folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", {"ociVersion": "2.0.0"}, {**default_spec(), "process": {"args": "sh"}}]
)
def test_a_broken_document_is_named(folder, text):
    _write(folder, text)
    with pytest.raises(InvalidArgument, match=str(folder / "config.json")):
        bundle.read(folder)


def test_a_directory_in_place_of_the_document_is_an_error(folder):
    (folder / "config.json").mkdir()
    with pytest.raises(ShimError, match="cannot be read"):
        bundle.read(folder)
