"""How many connections one client may have of all."""

from __future__ import annotations

import pytest

from shim.daemon.places import Places


def taken(places: Places, most: int, **who: object) -> list:
    """All that one client can have."""
    leave = []
    while places.is_free(most, **who):
        leave.append(places.take(**who))
    return leave


@pytest.mark.parametrize(
    ("most", "user", "network", "address"), [(256, 192, 192, 128), (4, 3, 3, 2), (1, 1, 1, 1)]
)
def test_nobody_has_all(most, user, network, address):
    assert len(taken(Places(), most, user=0)) == user
    assert len(taken(Places(), most, address="192.0.2.1")) == address
    places = Places()
    assert sum(len(taken(places, most, address=f"192.0.2.{number}")) for number in range(5)) == network
    assert len(taken(places, most, user=0)) == most - network
    assert len(places) == most
    assert not places.is_free(most, user=1)
    assert not places.is_free(most, address="192.0.2.9")


def test_a_place_is_free_again_once():
    places = Places()
    first, second, *_ = taken(places, 4, user=0)
    first()
    first()
    assert len(places) == 2
    assert places.is_free(4, user=0)
    second()
    assert len(places) == 1
