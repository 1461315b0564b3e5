from __future__ import annotations

import stat

import pytest

from shim.containers.checkpoints import Checkpoint, Checkpoints
from shim.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound, ShimError

FIRST = Checkpoint("first", "runc", exit=True, tcp=True)


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(str(tmp_path / "data"))


def write(checkpoints, checkpoint, container_id="c1", body="image"):
    unfinished = checkpoints.begin(container_id, checkpoint)
    (unfinished.image / "pages.img").write_text(body)
    checkpoints.finish(unfinished)


def test_what_was_finished_is_there_with_its_image(checkpoints, tmp_path):
    unfinished = checkpoints.begin("c1", FIRST)
    assert unfinished.image.name == "first"
    assert list(unfinished.image.iterdir()) == []
    assert checkpoints.of("c1") == []
    checkpoints.finish(unfinished)
    assert checkpoints.of("c1") == [FIRST]
    assert checkpoints.get("c1", "first") == FIRST
    image = checkpoints.image("c1", "first")
    assert [path.name for path in image.parent.iterdir()] == ["first"]
    for path in (image, image.parent, image.parent.parent, tmp_path / "data"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_name_is_taken_once_and_free_again(checkpoints):
    write(checkpoints, FIRST)
    with pytest.raises(AlreadyExists, match="container c1 has a checkpoint first already"):
        checkpoints.begin("c1", FIRST)
    write(checkpoints, FIRST, container_id="c2")
    checkpoints.delete("c1", "first")
    with pytest.raises(NotFound, match="container c1 has no checkpoint first"):
        checkpoints.delete("c1", "first")
    write(checkpoints, FIRST)


def test_of_two_at_once_the_first_one_wins(checkpoints):
    one, other = checkpoints.begin("c1", FIRST), checkpoints.begin("c1", FIRST)
    (other.image / "other").touch()
    checkpoints.finish(other)
    (one.image / "one").touch()
    with pytest.raises(AlreadyExists):
        checkpoints.finish(one)
    image = checkpoints.image("c1", "first")
    assert (image / "other").exists()
    assert [path.name for path in image.parent.iterdir()] == ["first"]


def test_what_was_discarded_leaves_nothing(checkpoints, tmp_path):
    unfinished = checkpoints.begin("c1", FIRST)
    checkpoints.discard(unfinished)
    checkpoints.discard(unfinished)
    assert list((tmp_path / "data" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "-x", "a\0", "ü", "x" * 256])
def test_names_that_none_can_have(checkpoints, name):
    for call in (
        lambda: checkpoints.begin("c1", Checkpoint(name, "runc")),
        lambda: checkpoints.image("c1", name),
        lambda: checkpoints.delete("c1", name),
    ):
        with pytest.raises(InvalidArgument, match="checkpoint name"):
            call()
    for call in (lambda: checkpoints.of(".."), lambda: checkpoints.begin("a/b", FIRST)):
        with pytest.raises(InvalidArgument, match="container id"):
            call()


def test_what_somebody_is_at_is_not_taken_over_and_what_was_left_is(checkpoints):
    going_on = checkpoints.begin("c1", FIRST)
    assert checkpoints.take_over() == []
    going_on.lock.close()  # as the kernel does when its process is killed
    (taken,) = checkpoints.take_over()
    assert (taken.container_id, taken.checkpoint, taken.image) == ("c1", FIRST, going_on.image)
    assert checkpoints.take_over() == []
    checkpoints.finish(taken)
    assert checkpoints.of("c1") == [FIRST]


def test_what_was_only_begun_or_half_deleted_is_cleared_away(checkpoints, tmp_path):
    top = tmp_path / "data" / "checkpoints"
    (top / "c1" / ".making-1" / "x").mkdir(parents=True)
    (top / "c2" / ".deleted-1" / "x").mkdir(parents=True)
    write(checkpoints, FIRST, container_id="c2")
    assert checkpoints.take_over() == []
    assert sorted(path.name for path in top.glob("*/*")) == ["first"]


def test_a_broken_record_is_named(checkpoints):
    write(checkpoints, FIRST)
    record = checkpoints.image("c1", "first") / ".checkpoint.json"
    record.write_text('{"schema": 1, "name": "first"}')
    with pytest.raises(DataLoss, match="other members"):
        checkpoints.get("c1", "first")
    record.unlink()
    with pytest.raises(DataLoss, match="no record"):
        checkpoints.of("c1")


def test_a_data_directory_that_is_none(tmp_path):
    (tmp_path / "data").touch()
    with pytest.raises(ShimError, match="cannot be stored"):
        Checkpoints(str(tmp_path / "data")).begin("c1", FIRST)
