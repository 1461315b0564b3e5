"""What a plugin's container may be asked to be, and what is refused before anything is made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.errors import InvalidArgument
from shim.plugin import Config, EndpointSettings

DIGEST = "ab" * 32


def test_what_is_given_is_kept_and_cannot_be_changed():
    env = ["A=1"]
    config = Config(image="a/b", tag="1.0", sha256=DIGEST, env=env, args=[], labels={"x": "y"})
    env.append("B=2")
    assert (config.env, config.args, config.entrypoint) == (("A=1",), (), None)
    assert (config.reference, config.digest) == ("a/b:1.0", f"sha256:{DIGEST}")
    with pytest.raises(AttributeError):
        config.image = "other"  # type: ignore[misc]


@pytest.mark.parametrize("text", [DIGEST, f"sha256:{DIGEST}"])
def test_a_digest_may_have_its_algorithm_before_it(text):
    assert Config(image="a", sha256=text).digest == f"sha256:{DIGEST}"


def test_no_digest_is_none():
    assert Config(image="a").digest == ""
    assert Config(image="a").reference == "a"


REFUSED = {
    "no image": {"image": ""},
    "a tag in the image": {"image": "a:1"},
    "a digest in the image": {"image": f"a@sha256{DIGEST}"},
    "an image of another type": {"image": 5},
    "a newline in the image": {"image": "a\nb"},
    "half a character": {"image": "a\udc80"},
    "a tag that is none": {"tag": "../x"},
    "a digest that is too short": {"sha256": DIGEST[1:]},
    "another algorithm": {"sha256": f"sha512:{DIGEST}"},
    "capitals in a digest": {"sha256": DIGEST.upper()},
    "a group below 0": {"group_add": -1},
    "a group that means none": {"group_add": 2**32 - 1},
    "a group that is a truth": {"group_add": True},
    "a flag that is a number": {"debug": 1},
    "negative memory": {"memory": -1},
    "memory beyond the wire": {"memory": 2**63},
    "half a byte": {"memory": 0.5},
    "negative CPUs": {"nano_cpus": -5},
    "a share of a CPU that no kernel gives": {"nano_cpus": 3},
    "a parent above the hierarchy": {"cgroup_parent": "/a/../../b"},
    "a text for a list": {"args": "sh"},
    "numbers in a list": {"args": [1]},
    "a NUL in an argument": {"args": ["a\0b"]},
    "half a character in an argument": {"args": ["\udc80"]},
    "no env at all": {"env": None},
    "a name without a value": {"env": ["A"]},
    "a value without a name": {"env": ["=1"]},
    "labels that are a list": {"labels": ["a"]},
    "a label that is a number": {"labels": {"a": 1}},
    "a label without a text as name": {"labels": {1: "a"}},
    "an endpoint that is a text": {"endpoints_config": {"a": "10.0.0.2"}},
    "no network and one": {"disable_network": True, "endpoints_config": {"a": EndpointSettings()}},
    "rootless without a group": {"rootless": True},
}


@pytest.mark.parametrize("members", REFUSED.values(), ids=REFUSED)
def test_what_can_never_work_is_refused_in_one_line(members):
    with pytest.raises(InvalidArgument) as caught:
        Config(**{"image": "a", **members})
    message = str(caught.value)
    assert "\n" not in message
    assert next(iter(members)) in message


@pytest.mark.parametrize("address", ["10.0.0.0/24", "x", 5, "10.0.0.256"])
def test_an_endpoint_has_an_address_or_none(address):
    with pytest.raises(InvalidArgument, match="ip_address"):
        EndpointSettings(ip_address=address)


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text()),
    st.dictionaries(st.text(), st.text()),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(list(Config.__dataclass_fields__)), ANYTHING))
def test_whatever_it_is_given_it_is_valid_or_refused(members):
    refused, config = "", None
    try:
        config = Config(**{"image": "a", **members})
    except InvalidArgument as error:
        refused = str(error)
    assert "\n" not in refused
    assert (config is None) == bool(refused)
    assert config is None or config.nano_cpus >= 0
