"""What the container of a plugin is made of: the image's configuration, go-plugin's variables, the plugin's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.errors import InvalidArgument
from shim.image import ImageConfig, User
from shim.oci.spec import parse
from shim.plugin import Config
from shim.plugin.container.bundle import container_document, environment

IMAGE = ImageConfig(entrypoint=("/plugin",), cmd=("serve",), env=("PATH=/bin", "A=image"), working_dir="data")


def document(
    image: ImageConfig = IMAGE, user: User | None = None, env: dict[str, str] | None = None, **members
):
    config = Config(image="p", **members)
    made = container_document(config, image, user or User(), env or {}, rootfs="/r", socket_dir="/run/s")
    return parse(json.dumps(made).encode(), "it").raw


def test_a_plugin_may_nothing():
    made = document(user=User(7, 8, (9,)), group_add=77)
    process = made["process"]
    assert process["user"] == {"uid": 7, "gid": 8, "additionalGids": [9, 77]}
    assert {*map(tuple, process["capabilities"].values())} == {()}
    assert process["noNewPrivileges"]
    assert not process["terminal"]
    assert (process["cwd"], made["root"]) == ("/data", {"path": "/r", "readonly": False})
    assert made["mounts"][-1] == {
        "destination": "/tmp/go-plugin-container",
        "type": "bind",
        "source": "/run/s",
        "options": ["bind", "private", "rw"],
    }


@pytest.mark.parametrize("uid", [0, 7])
def test_what_it_may_as_root_and_what_its_program_may_get(uid):
    made = document(user=User(uid), rootless=True, cap_ipc_lock=True, group_add=1)["process"]
    wanted = ["CAP_DAC_OVERRIDE", "CAP_IPC_LOCK"]
    assert made["capabilities"]["bounding"] == wanted
    assert (
        made["capabilities"]["effective"] == made["capabilities"]["permitted"] == (wanted if uid == 0 else [])
    )
    assert made["capabilities"]["ambient"] == []
    assert not made["noNewPrivileges"]


@pytest.mark.parametrize(
    ("members", "args"),
    [
        ({}, ["/plugin", "serve"]),
        ({"args": ["-x"]}, ["/plugin", "-x"]),
        ({"args": []}, ["/plugin"]),
        ({"entrypoint": ["/other"]}, ["/other"]),
        ({"entrypoint": ["/other"], "args": ["a"]}, ["/other", "a"]),
        ({"entrypoint": []}, ["serve"]),
    ],
)
def test_commands(members, args):
    assert document(**members)["process"]["args"] == args


def test_an_image_without_a_command():
    with pytest.raises(InvalidArgument, match="image p has neither"):
        document(ImageConfig())


def test_the_environment_in_its_order():
    env = {
        "PLUGIN_UNIX_SOCKET_DIR": "/run/s", "TMPDIR": "/run/s", "COOKIE": "x", "A": "plugin", "B": "plugin"
    }  # fmt: skip
    config = Config(image="p", env=["B=config", "PLUGIN_UNIX_SOCKET_DIR=/own", "C=a=b", "B=last"])
    assert environment(config, IMAGE, env, "/run/s") == [
        "PATH=/bin",
        "TMPDIR=/tmp/go-plugin-container",
        "COOKIE=x",
        "A=plugin",
        "PLUGIN_UNIX_SOCKET_DIR=/own",
        "C=a=b",
        "B=last",
    ]


def test_a_folder_for_temporary_files_that_is_not_ours_stays():
    assert "TMPDIR=/var/tmp" in environment(
        Config(image="p"), ImageConfig(), {"TMPDIR": "/var/tmp"}, "/run/s"
    )


def test_without_a_path_there_is_the_usual_one():
    assert environment(Config(image="p"), ImageConfig(), {}, "/s")[0].startswith("PATH=/usr/local/sbin:")


NAMES = st.text("ABC", min_size=1, max_size=2)
VARIABLES = st.lists(st.tuples(NAMES, st.text("x=", max_size=3)).map("=".join), max_size=8)


@given(VARIABLES, VARIABLES)
def test_the_last_of_a_name_wins(image, own):
    made = environment(Config(image="p", env=own), ImageConfig(env=tuple(image)), {}, "/s")
    found = dict(text.split("=", 1) for text in made)
    assert len(found) == len(made)
    assert dict(text.split("=", 1) for text in [*image, *own]).items() <= found.items()
