"""Images in one file: OCI's archives, and Docker's by the real skopeo."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import tarfile

import pytest
from support import bed
from support.oci_images import archive, layer, make_image, make_layout, member

from shim.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from shim.image import Images, Limits

FILES = {"bin/hello": b"#!/bin/sh\n", "etc/passwd": b"app:x:5:6::/:/bin/sh\n"}


@pytest.fixture
def layout(tmp_path):
    return make_image(tmp_path / "l", FILES, {"User": "app"}, name="x.test/hello:1")


@pytest.fixture
def docker_archive(layout, tmp_path):
    """As ``docker save`` made them before Docker 25, and skopeo still does."""
    bed.need(shutil.which("skopeo"), "skopeo is not installed: apt-get install skopeo")

    def make(*names: str):
        path = tmp_path / "docker.tar"
        more = [word for name in names[1:] for word in ("--additional-tag", name)]
        target = f"docker-archive:{path}" + (f":{names[0]}" if names else "")
        source = f"oci:{layout}:x.test/hello:1"
        index = json.loads((layout / "index.json").read_text())
        index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "x.test/hello:1"}
        (layout / "index.json").write_text(json.dumps(index))
        subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", *more, source, target], check=True)
        return path

    return make


def tar_of(path, content):
    path.write_bytes(layer(content))
    return path


def test_an_archive_is_as_good_as_its_layout(images, layout, tmp_path, root):
    path = archive(layout, tmp_path / "a.tar")
    image = images.import_(layout)
    assert images.import_(path, "b").id == image.id
    assert images.get("b").manifest_digest == image.manifest_digest
    packed = tmp_path / "a.tgz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert images.import_(packed, "c").id == image.id
    assert list(root.rglob(".*")) == []


def test_what_else_is_in_an_archive_is_passed_over(images, layout, tmp_path):
    path = archive(layout, tmp_path / "a.tar")
    with tarfile.open(path, "a") as tar:
        for name in ("../evil", "/tmp/evil", "blobs/sha256/../../evil", "blobs/sha512/" + "0" * 128, "evil"):
            tar.addfile(member(name, b"x")[0], io.BytesIO(b"x"))
        tar.addfile(member("blobs/sha256/" + "0" * 64, kind=tarfile.SYMTYPE, linkname="/etc/passwd")[0])
        tar.addfile(member("index.json", kind=tarfile.SYMTYPE, linkname="/etc/passwd")[0])
        tar.addfile(member("blobs", kind=tarfile.SYMTYPE, linkname="/")[0])
    assert images.import_(path).names == ("x.test/hello:1",)
    assert not list(tmp_path.rglob("evil"))


def test_a_blob_that_lies_in_an_archive(images, layout, tmp_path, is_empty):
    for path in (layout / "blobs" / "sha256").iterdir():
        if path.read_bytes().startswith(b"\x1f\x8b"):
            path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InvalidArgument, match="has the digest sha256:"):
        images.import_(archive(layout, tmp_path / "a.tar"))
    assert is_empty()


@pytest.mark.parametrize(
    "body", [b"", b"x" * 5000, bytes(10240), b"\x1f\x8b", gzip.compress(b"x" * 5000), gzip.compress(b"")]
)
def test_what_is_no_archive(images, tmp_path, body, is_empty):
    path = tmp_path / "a.tar"
    path.write_bytes(body)
    with pytest.raises(InvalidArgument, match=r"a\.tar"):
        images.import_(path)
    assert is_empty()


def test_an_archive_cut_short(images, layout, tmp_path, is_empty):
    path = archive(layout, tmp_path / "a.tar")
    whole = path.read_bytes()
    for size in (600, 1500, 3000):
        path.write_bytes(whole[:size])
        with pytest.raises((InvalidArgument, NotFound)):
            images.import_(path)
    assert is_empty()


def test_an_archive_of_something_else(images, tmp_path, is_empty):
    with pytest.raises(InvalidArgument, match=r"neither index.json nor manifest.json"):
        images.import_(tar_of(tmp_path / "a.tar", {"a": b""}))
    assert is_empty()


def test_archives_that_are_too_large(layout, tmp_path, root, is_empty):
    path = archive(layout, tmp_path / "a.tar")
    for limits in (Limits(unpacked=4096), Limits(entries=2), Limits(blob=10), Limits(document=10)):
        with pytest.raises(ResourceExhausted, match=r"a\.tar"):
            Images(root, limits).import_(path)
    assert is_empty()


def test_of_docker_s_the_id_is_that_of_docker(images, docker_archive, tmp_path, root):
    path = docker_archive("docker.io/library/hello:1", "docker.io/library/hello:2")
    with tarfile.open(path) as tar:
        (entry,) = json.load(tar.extractfile("manifest.json"))
    image = images.import_(path)
    assert image.id == f"sha256:{entry['Config'].removesuffix('.json')}"
    assert image.names == ("hello:1", "hello:2")
    assert image.config.user == "app"
    assert images.import_(path, "other").id == image.id
    packed = tmp_path / "d.tgz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert images.import_(packed).id == image.id
    assert list(root.rglob(".*")) == []


@pytest.mark.root
def test_docker_s_can_be_unpacked(images, docker_archive, tmp_path):
    bed.need(shutil.which("umoci"), "umoci is not installed: apt-get install umoci")
    images.unpack(images.import_(docker_archive()), tmp_path / "r")
    assert (tmp_path / "r" / "bin" / "hello").read_bytes() == FILES["bin/hello"]


def test_of_several_in_docker_s_the_name_says_which(images, docker_archive, tmp_path, is_empty):
    docker_archive("x.test/a:1")
    other = make_image(tmp_path / "m", {"other": b""}, {"Cmd": ["other"]})
    subprocess.run(
        [
            "skopeo",
            "--insecure-policy",
            "copy",
            "--quiet",
            f"oci:{other}",
            f"docker-archive:{tmp_path}/2.tar:x.test/b:1",
        ],
        check=True,
    )
    entries, parts = [], {}
    for path in (tmp_path / "docker.tar", tmp_path / "2.tar"):
        with tarfile.open(path) as tar:
            for info in tar:
                if info.isreg():
                    parts[info.name] = tar.extractfile(info).read()
        entries += json.loads(parts.pop("manifest.json"))
    both = tar_of(tmp_path / "both.tar", {**parts, "manifest.json": json.dumps(entries).encode()})
    with pytest.raises(InvalidArgument, match=r"several images: x.test/a:1, x.test/b:1; say which"):
        images.import_(both)
    assert is_empty()
    assert images.import_(both, "x.test/b:1").config.cmd == ("other",)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{}",
        b"[7]",
        b'[{"Config": "x"}]',
        b"[]",
        b'[{"Config": "../x", "RepoTags": null, "Layers": ["../y"]}]',
    ],
)
def test_docker_s_that_are_none(images, docker_archive, tmp_path, manifest, is_empty):
    path = tar_of(tmp_path / "a.tar", {"manifest.json": manifest})
    with pytest.raises((InvalidArgument, NotFound, FailedPrecondition), match=r"a\.tar") as caught:
        images.import_(path)
    assert "level=" not in str(caught.value)
    assert is_empty()


def test_without_skopeo(images, docker_archive, tmp_path, monkeypatch, is_empty):
    path = docker_archive()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match=r"needs skopeo, which is not installed: apt-get install skopeo"):
        images.import_(path)
    assert is_empty()


def test_another_image_than_the_archive_has(images, docker_archive, tmp_path, monkeypatch, is_empty):
    path = docker_archive("x.test/a:1")
    other = make_image(tmp_path / "m", {"other": b""})
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{other}", f"dir:{tmp_path}/copy"], check=True
    )
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "skopeo").write_text(f"#!/bin/sh\ncp -r {tmp_path}/copy copy\n")
    (programs / "skopeo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    with pytest.raises(InvalidArgument, match="of which skopeo has made sha256:"):
        images.import_(path)
    assert is_empty()


def test_layers_of_docker_s_are_looked_through(images, tmp_path, is_empty):
    bed.need(shutil.which("skopeo"), "skopeo is not installed: apt-get install skopeo")
    evil = make_layout(tmp_path / "l", [layer([member("../evil", b"x")])])
    path = tmp_path / "docker.tar"
    command = [
        "skopeo",
        "--insecure-policy",
        "copy",
        "--quiet",
        f"oci:{evil}",
        f"docker-archive:{path}:x.test/a:1",
    ]
    subprocess.run(command, check=True)
    with pytest.raises(InvalidArgument, match=r"^layer 1 .*'../evil' is refused"):
        images.import_(path)
    assert is_empty()
