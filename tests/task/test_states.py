"""The state machine, row by row: what containerd's Task API says may be asked of a process in each state."""

from __future__ import annotations

import itertools

import pytest

from shim.errors import FailedPrecondition, NotFound, ShimError
from shim.task.states import Machine, State

CREATED, RUNNING, PAUSING, PAUSED, STOPPED, DELETED = State

# The table of the Task API. What is not here is refused.
POSSIBLE = {
    "start": {CREATED},
    "delete": {CREATED, STOPPED},
    "pause": {RUNNING},
    "resume": {PAUSED},
    "update": {CREATED, RUNNING, PAUSED},
    "checkpoint": {RUNNING, PAUSED},
    "exec in": {CREATED, RUNNING},
    "kill": {CREATED, RUNNING, PAUSING, PAUSED},
}
PATHS = {
    CREATED: [],
    RUNNING: [RUNNING],
    PAUSING: [RUNNING, PAUSING],
    PAUSED: [RUNNING, PAUSING, PAUSED],
    STOPPED: [RUNNING, STOPPED],
    DELETED: [RUNNING, STOPPED, DELETED],
}
MOVES = {
    (CREATED, RUNNING), (CREATED, STOPPED), (CREATED, DELETED),
    (RUNNING, PAUSING), (RUNNING, STOPPED),
    (PAUSING, PAUSED), (PAUSING, RUNNING), (PAUSING, STOPPED),
    (PAUSED, RUNNING), (PAUSED, STOPPED),
    (STOPPED, DELETED),
}  # fmt: skip


def machine_in(state: State) -> Machine:
    machine = Machine("container c1")
    for step in PATHS[state]:
        machine.move(step)
    assert machine.state is state
    return machine


def refusal(verb: str, state: State) -> type[ShimError]:
    # Clients take NotFound for "already gone", which to a kill is a success.
    return NotFound if state is DELETED or (verb == "kill" and state is STOPPED) else FailedPrecondition


@pytest.mark.parametrize("verb", POSSIBLE)
@pytest.mark.parametrize("state", State)
def test_every_verb_in_every_state(verb, state):
    machine = machine_in(state)
    if state in POSSIBLE[verb]:
        machine.check(verb)
    else:
        with pytest.raises(refusal(verb, state)) as caught:
            machine.check(verb)
        assert type(caught.value) is refusal(verb, state)
        assert "container c1" in str(caught.value)
    assert machine.state is state


def refused() -> list[tuple[str, State]]:
    states = [state for state in State if state is not DELETED]
    return [(v, s) for v, s in itertools.product(POSSIBLE, states) if v != "kill" and s not in POSSIBLE[v]]


@pytest.mark.parametrize(("verb", "state"), refused())
def test_a_refusal_names_the_verb_and_the_state(verb, state):
    with pytest.raises(FailedPrecondition, match=f"^cannot {verb} container c1: it is {state.value}$"):
        machine_in(state).check(verb)


@pytest.mark.parametrize("here", State)
@pytest.mark.parametrize("to", State)
def test_every_move(here, to):
    machine = machine_in(here)
    if (here, to) in MOVES:
        machine.move(to)
        assert machine.state is to
    else:
        with pytest.raises(RuntimeError, match=f"from {here.value} to {to.value}"):
            machine.move(to)
        assert machine.state is here
