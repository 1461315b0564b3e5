"""The store: what comes in, under which names, and what never does."""

from __future__ import annotations

import json
import os
import tarfile

import pytest
from support.oci_images import add_blob, layer, make_image, make_layout, member, platform

from shim.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ShimError,
)
from shim.image import Images, Limits

HELLO = {"bin/hello": b"#!/bin/sh\n"}
CONFIG = {
    "Entrypoint": ["/bin/hello"],
    "Cmd": ["a"],
    "Env": ["A=b"],
    "User": "app:1",
    "WorkingDir": "/w",
    "Labels": {"a": "b"},
}


def index_of(layout):
    return json.loads((layout / "index.json").read_text())["manifests"]


def write_index(layout, entries):
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


def blob(layout, digest):
    return layout / "blobs" / digest.replace(":", "/")


def test_an_image_comes_in_is_found_and_goes(images, tmp_path, files):
    layout = make_image(tmp_path / "l", HELLO, CONFIG, name="docker.io/library/hello:1")
    image = images.import_(layout)
    assert image.names == ("hello:1",)
    config = image.config
    assert (config.entrypoint, config.cmd, config.env) == (("/bin/hello",), ("a",), ("A=b",))
    assert (config.user, config.working_dir, dict(config.labels)) == ("app:1", "/w", {"a": "b"})
    (entry,) = index_of(layout)
    assert image.manifest_digest == entry["digest"]
    assert image.size == sum(path.stat().st_size for path in (layout / "blobs" / "sha256").iterdir())
    for reference in (
        "hello:1",
        "docker.io/library/hello:1",
        image.id,
        image.manifest_digest,
        f"hello:1@{image.id}",
    ):
        assert images.get(reference) == image
    assert images.list() == (image,)
    assert files() == sorted(["images/images.json", *(f"images/blobs/sha256/{b[7:]}" for b in image.blobs)])
    assert images.remove("hello:1") == image
    assert files() == ["images/images.json"]
    assert images.list() == ()


def test_it_is_the_owner_s_alone(images, tmp_path, root):
    images.import_(make_image(tmp_path / "l", HELLO))
    assert [path.stat().st_mode & 0o777 for path in (root, root / "images")] == [0o700, 0o700]


def test_names(images, tmp_path):
    first = images.import_(make_image(tmp_path / "1", HELLO), "a")
    assert images.import_(tmp_path / "1", "b").names == ("a:latest", "b:latest")
    second = images.import_(make_image(tmp_path / "2", {"x": b""}), "a:latest")
    assert images.get("a").id == second.id
    assert images.get("b").id == first.id
    assert images.get(first.id).names == ("b:latest",)
    assert images.remove("b").id == first.id
    with pytest.raises(NotFound, match="ocishim image list"):
        images.get(first.id)
    images.import_(tmp_path / "2", "c")
    assert images.remove("c").names == ("c:latest",)
    assert images.get("a").names == ("a:latest",)
    assert images.remove(second.id).names == ("a:latest",)
    assert images.list() == ()


def test_an_image_may_have_no_name(images, tmp_path):
    image = images.import_(make_image(tmp_path / "l", HELLO, name="latest"))  # a tag says nothing of what
    assert image.names == ()
    assert images.get(image.id) == image


def test_images_without_a_name_can_be_cleared_away(images, tmp_path, files):
    assert images.prune() == ()
    with pytest.raises(NotFound):
        images.import_(tmp_path / "nothing")
    assert images.prune() == ()
    first = images.import_(make_image(tmp_path / "1", HELLO), "a")
    second = images.import_(make_image(tmp_path / "2", {"x": b""}), "a")
    assert [image.id for image in images.prune()] == [first.id]
    assert images.list() == (second,)
    assert files() == sorted(["images/images.json", *(f"images/blobs/sha256/{b[7:]}" for b in second.blobs)])
    assert images.prune() == ()


def test_what_two_images_share_stays_with_the_other(images, tmp_path, files):
    data = layer(HELLO)
    first = images.import_(make_layout(tmp_path / "1", [data], {"Cmd": ["1"]}), "a")
    second = images.import_(make_layout(tmp_path / "2", [data], {"Cmd": ["2"]}), "b")
    assert len(first.blobs & second.blobs) == 1
    images.remove("a")
    assert files() == sorted(["images/images.json", *(f"images/blobs/sha256/{b[7:]}" for b in second.blobs)])


def test_the_manifest_for_this_machine(images, tmp_path):
    other = {"os": "linux", "architecture": "s390x"}
    unknown = {"os": "unknown", "architecture": "unknown"}
    layout = make_image(tmp_path / "l", HELLO, platforms=[unknown, other, platform()])
    image = images.import_(layout, "a")
    assert image.config.labels == {"platform": platform()["architecture"]}
    assert image.index_digest == index_of(layout)[0]["digest"]
    assert images.get(f"a@{image.index_digest}") == image
    with pytest.raises(InvalidArgument, match=r"nothing for linux/\w+: linux/s390x"):
        images.import_(make_image(tmp_path / "o", HELLO, platforms=[other]))
    with pytest.raises(InvalidArgument, match=r"is for linux/s390x, this machine is linux/"):
        images.import_(make_image(tmp_path / "p", HELLO, about=other))


def test_of_several_images_the_name_says_which(images, tmp_path):
    layout = make_image(tmp_path / "l", HELLO, {"Cmd": ["1"]}, name="x.test/a:1")
    second = make_image(tmp_path / "m", HELLO, {"Cmd": ["2"]}, name="x.test/b:1")
    for path in (second / "blobs" / "sha256").iterdir():
        path.rename(layout / "blobs" / "sha256" / path.name)
    write_index(layout, index_of(layout) + index_of(second))
    with pytest.raises(InvalidArgument, match=r"several images: x.test/a:1, x.test/b:1; say which"):
        images.import_(layout)
    with pytest.raises(InvalidArgument, match="several images"):
        images.import_(layout, "c")
    assert images.import_(layout, "x.test/b:1").config.cmd == ("2",)


def test_one_image_with_two_names(images, tmp_path):
    layout = make_image(tmp_path / "l", HELLO, name="x.test/a:1")
    (entry,) = index_of(layout)
    key = "org.opencontainers.image.ref.name"
    write_index(layout, [entry, {**entry, "annotations": {key: "x.test/b:1"}}])
    assert images.import_(layout).names == ("x.test/a:1", "x.test/b:1")


@pytest.mark.parametrize("which", ["id", "manifest_digest", "plain"])
def test_the_digest_that_is_expected(images, tmp_path, which):
    layout = make_image(tmp_path / "l", HELLO)
    image = images.import_(layout)
    expected = image.id.removeprefix("sha256:") if which == "plain" else getattr(image, which)
    assert images.import_(layout, "a", expected).id == image.id


def test_another_image_than_the_one_expected(images, tmp_path, is_empty):
    layout = make_image(tmp_path / "l", HELLO)
    with pytest.raises(FailedPrecondition, match=f"and not sha256:{'0' * 64}"):
        images.import_(layout, "a", "0" * 64)
    assert is_empty()
    image = images.import_(layout, "a")
    with pytest.raises(FailedPrecondition, match=f"a:latest has the ID {image.id}, and not"):
        images.get(f"a@sha256:{'0' * 64}")


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("which", ["manifest", "config", "layer"])
@pytest.mark.parametrize("lie", ["digest", "longer", "shorter", "gone", "fifo", "directory"])
def test_whatever_lies_is_refused_and_leaves_nothing(images, tmp_path, is_empty, which, lie):
    layout = make_image(tmp_path / "l", HELLO)
    (entry,) = index_of(layout)
    manifest = json.loads(blob(layout, entry["digest"]).read_text())
    found = {"manifest": entry, "config": manifest["config"], "layer": manifest["layers"][0]}[which]
    path = blob(layout, found["digest"])
    if lie == "digest":
        _flip(path)
    elif lie == "longer":
        path.write_bytes(path.read_bytes() + b"\0")
    elif lie == "shorter":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    if lie == "fifo":
        os.mkfifo(path)
    if lie == "directory":
        path.mkdir()
    with pytest.raises((InvalidArgument, NotFound)) as caught:
        images.import_(layout, "a")
    assert found["digest"][7:] in str(caught.value)
    assert is_empty()


@pytest.mark.parametrize("size", [-1, 0, 10**30, "7", None, True, 1.0])
def test_sizes_that_lie(images, tmp_path, is_empty, size):
    layout = make_image(tmp_path / "l", HELLO)
    (entry,) = index_of(layout)
    write_index(layout, [{**entry, "size": size}])
    with pytest.raises(InvalidArgument):
        images.import_(layout)
    assert is_empty()


@pytest.mark.parametrize("off", [-1, 1])
@pytest.mark.parametrize("which", ["config", "layer"])
def test_sizes_of_what_a_manifest_lists(images, tmp_path, is_empty, which, off):
    layout = make_image(tmp_path / "l", HELLO)
    (entry,) = index_of(layout)
    manifest = json.loads(blob(layout, entry["digest"]).read_text())
    found = manifest["config"] if which == "config" else manifest["layers"][0]
    found["size"] += off
    write_index(layout, [add_blob(layout, json.dumps(manifest).encode(), "manifest.v1+json")])
    with pytest.raises(InvalidArgument, match=f"{found['digest']} has .* bytes, and not {found['size']}"):
        images.import_(layout)
    assert is_empty()


def test_an_index_that_lies(images, tmp_path, is_empty):
    """It is not kept, so this is the only look at it."""
    layout = make_image(tmp_path / "l", HELLO, platforms=[platform()])
    path = blob(layout, index_of(layout)[0]["digest"])
    path.write_bytes(path.read_bytes()[:-1] + b" }")
    with pytest.raises(InvalidArgument, match=f"what is called sha256:{path.name} has the digest"):
        images.import_(layout)
    assert is_empty()


def test_a_layer_that_is_another_than_the_configuration_says(images, tmp_path, is_empty):
    wrong = {"rootfs": {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]}}
    with pytest.raises(
        InvalidArgument, match=r"layer 1 .* holds sha256:\w+, and the configuration says sha256:000"
    ):
        images.import_(make_image(tmp_path / "l", HELLO, about=wrong))
    short = {"rootfs": {"type": "layers", "diff_ids": []}}
    with pytest.raises(InvalidArgument, match="1 layers, and its configuration 0"):
        images.import_(make_image(tmp_path / "m", HELLO, about=short))
    assert is_empty()


def test_a_hostile_layer_is_named_and_leaves_nothing(images, tmp_path, is_empty):
    evil = layer([member("dev/sda", kind=tarfile.BLKTYPE)])
    layout = make_layout(tmp_path / "l", [layer(HELLO), evil])
    with pytest.raises(
        InvalidArgument, match=r"^layer 2 \(sha256:\w+\), entry 'dev/sda' is refused: it is a device"
    ):
        images.import_(layout)
    assert is_empty()


def test_limits_are_for_all_layers_together(root, tmp_path, is_empty):
    layout = make_layout(tmp_path / "l", [layer({"a": bytes(3000)}), layer({"b": bytes(3000)})])
    size = len(layer({"a": bytes(3000)}))
    assert Images(root, Limits(unpacked=2 * size)).import_(layout).unpacked_size == 2 * size
    Images(root).remove(Images(root).list()[0].id)
    (root / "images" / "images.json").unlink()
    for limits in (Limits(unpacked=2 * size - 1), Limits(entries=1), Limits(blob=100), Limits(document=100)):
        with pytest.raises(ResourceExhausted):
            Images(root, limits).import_(layout)
        assert is_empty()


@pytest.mark.parametrize("text", ["\0", "half a \ud800", "\udc80"])
@pytest.mark.parametrize(
    "place",
    [
        lambda t: {"Env": [f"A={t}"]},
        lambda t: {"Entrypoint": [t]},
        lambda t: {"User": t},
        lambda t: {"WorkingDir": t},
        lambda t: {"Labels": {"a": t}},
        lambda t: {"Labels": {t: "a"}},
    ],
)
def test_what_no_program_can_be_given(images, tmp_path, place, text, is_empty):
    layout = make_layout(tmp_path / "l", [layer(HELLO)], place(text))
    with pytest.raises(InvalidArgument, match="text"):
        images.import_(layout)
    assert is_empty()


def _mutations():
    """What a manifest, an index or a configuration may have where something else belongs."""
    for value in (None, 7, "x", [], {}, [7], {"a": 7}, True):
        for place in (
            "index.manifests",
            "index.descriptor",
            "manifest.config",
            "manifest.layers",
            "manifest.layer",
        ):
            yield place, value
        for place in ("rootfs", "config", "Entrypoint", "Env", "Labels", "User", "os", "diff_ids"):
            yield place, value


@pytest.mark.parametrize(("place", "value"), list(_mutations()))
def test_documents_with_something_else_in_them(images, tmp_path, place, value, is_empty):
    """Each is taken, where the place may be empty, or refused in one line; nothing else comes out."""
    layout = make_image(tmp_path / "l", HELLO, CONFIG)
    (entry,) = index_of(layout)
    manifest = json.loads(blob(layout, entry["digest"]).read_text())
    config = json.loads(blob(layout, manifest["config"]["digest"]).read_text())
    if place in {"rootfs", "config", "os"}:
        config[place] = value
    elif place == "diff_ids":
        config["rootfs"]["diff_ids"] = value
    elif place[0].isupper():
        config["config"][place] = value
    manifest["config"] = add_blob(layout, json.dumps(config).encode(), "config.v1+json")
    if place == "manifest.layer":
        manifest["layers"] = [value]
    elif place.startswith("manifest."):
        manifest[place.partition(".")[2]] = value
    entry = add_blob(layout, json.dumps(manifest).encode(), "manifest.v1+json")
    write_index(layout, [entry])
    if place == "index.descriptor":
        write_index(layout, [value])
    elif place == "index.manifests":
        write_index(layout, value)
    try:
        images.import_(layout, "a")
    except (InvalidArgument, NotFound) as error:
        assert "\n" not in str(error)  # noqa: PT017 - it may also pass
        assert is_empty()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"schemaVersion": 1, "manifests": []}']
)
@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_documents_that_are_none(images, tmp_path, name, body, is_empty):
    layout = make_image(tmp_path / "l", HELLO)
    (layout / name).write_bytes(body)
    with pytest.raises(InvalidArgument, match=name):
        images.import_(layout)
    assert is_empty()


def test_indexes_of_indexes_end(images, tmp_path, is_empty):
    layout = make_image(tmp_path / "l", HELLO, platforms=[platform()])
    for _ in range(8):
        body = json.dumps({"schemaVersion": 2, "manifests": index_of(layout)}).encode()
        write_index(layout, [add_blob(layout, body, "index.v1+json")])
    with pytest.raises(InvalidArgument, match="no manifest"):
        images.import_(layout)
    assert is_empty()


def test_what_no_layer_is(images, tmp_path, is_empty):
    layout = make_image(tmp_path / "l", HELLO)
    (entry,) = index_of(layout)
    manifest = json.loads(blob(layout, entry["digest"]).read_text())
    manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd"
    write_index(layout, [add_blob(layout, json.dumps(manifest).encode(), "manifest.v1+json")])
    with pytest.raises(InvalidArgument, match="skopeo copy --dest-compress-format gzip"):
        images.import_(layout)
    assert is_empty()


def test_what_is_no_source(images, tmp_path, is_empty):
    with pytest.raises(NotFound, match="none"):
        images.import_(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match=r"is no OCI layout: it has no oci-layout"):
        images.import_(tmp_path / "empty")
    with pytest.raises(InvalidArgument, match="no name of an image"):
        images.import_(tmp_path, "A B")
    with pytest.raises(InvalidArgument, match="no digest"):
        images.import_(tmp_path, "", "abc")
    with pytest.raises(InvalidArgument, match="no regular file"):
        images.import_("/dev/zero")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidArgument, match="no regular file"):
        images.import_(tmp_path / "fifo")
    assert is_empty()


def test_who_watches_may_end_it(images, tmp_path, is_empty):
    class EnoughError(Exception):
        pass

    steps = []

    def watch(what, done, total):
        steps.append((what, done, total))
        if what.startswith("looking"):
            raise EnoughError

    layout = make_image(tmp_path / "l", HELLO)
    with pytest.raises(EnoughError):
        images.import_(layout, progress=watch)
    assert is_empty()
    assert steps[-2][1] == steps[-2][2] > 0


def test_a_record_that_is_broken(images, tmp_path, root):
    images.import_(make_image(tmp_path / "l", HELLO))
    path = root / "images" / "images.json"
    for body in ("{", '{"schema": 1}', '{"schema": 1, "images": [{}]}', '{"schema": 1, "images": [7]}'):
        path.write_text(body)
        for call in (images.list, lambda: images.get("a"), lambda: images.remove("a")):
            with pytest.raises(DataLoss, match="broken"):
                call()


def test_nothing_is_there(images):
    assert images.list() == ()
    for call in (images.get, images.remove):
        with pytest.raises(NotFound, match=r"image a.* does not exist"):
            call("a")


@pytest.mark.root
def test_a_full_disk(tmp_path, images, root):
    from shim.linux.mounts import mount, umount2  # noqa: PLC0415 - of root's tests alone

    layout = make_layout(tmp_path / "l", [layer({"a": os.urandom(200_000)})], gz=False)
    root.mkdir()
    mount("none", str(root), "tmpfs", 0, "size=128k")
    try:
        with pytest.raises(ResourceExhausted, match="No space left on device"):
            images.import_(layout)
        assert list((root / "images").iterdir()) == []
    finally:
        umount2(str(root), 0)


def test_errors_are_ours(images, tmp_path, root):
    root.write_text("")
    with pytest.raises(ShimError, match="cannot import"):
        images.import_(make_image(tmp_path / "l", HELLO))
