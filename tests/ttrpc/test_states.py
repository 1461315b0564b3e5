"""The table is what the essay above it says."""

from __future__ import annotations

import pytest

from shim.ttrpc.frames import REMOTE_CLOSED, REMOTE_OPEN
from shim.ttrpc.states import FLAGS_OF_KIND, OPENING, TRANSITIONS, Kind, Message, Party, State, kind_of_flags


@pytest.mark.parametrize("kind", Kind)
def test_flags_say_what_a_request_opens(kind):
    assert kind_of_flags(FLAGS_OF_KIND[kind]) is kind
    assert kind_of_flags(FLAGS_OF_KIND[kind] | 0xF8) is kind


def test_open_wins_over_closed():
    assert kind_of_flags(REMOTE_OPEN | REMOTE_CLOSED) is Kind.BIDI_STREAM


def test_nothing_follows_the_end():
    assert not [key for key in TRANSITIONS if key[0] is State.FINISHED]


def test_whatever_is_open_can_be_answered():
    for state in set(OPENING.values()):
        assert TRANSITIONS[state, Party.ANSWERER, Message.RESPONSE] is State.FINISHED


def test_only_the_answerer_finishes_a_stream():
    finishing = {party for (_, party, _), state in TRANSITIONS.items() if state is State.FINISHED}
    assert finishing == {Party.ANSWERER}


def test_the_opener_sends_nothing_after_it_has_closed():
    after_close = TRANSITIONS[State.OPEN, Party.OPENER, Message.CLOSE]
    assert not [m for m in Message if (after_close, Party.OPENER, m) in TRANSITIONS]
