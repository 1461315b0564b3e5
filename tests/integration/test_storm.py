"""Everything at once, on few containers, from many clients: whatever comes of it, it is an answer.

What each call returns is chance. What must not happen is in the fixture and below: an answer that is our own fault, a call
without one, an error in the log, a process or a descriptor that stays.
"""

from __future__ import annotations

import random

import pytest
from support.shims import PROCESS_URL, Connection, json_any, options

from shim.errors import Internal, ShimError

pytestmark = [pytest.mark.root, pytest.mark.slow]

CALLS = 1000
CLIENTS = 4
AT_ONCE = 12
SPEC = json_any(PROCESS_URL, {"args": ["sh", "-c", "exit 3"], "cwd": "/", "env": ["PATH=/bin"]})


class Storm:
    """Random calls; the ids and the streams of few containers and execs."""

    def __init__(self, shim, runtime: str, seed: int) -> None:
        self._dice = random.Random(seed)
        self._options = options(runtime=runtime, drain_timeout=0.1, runtime_timeout=20.0)
        args = ["sh", "-c", "echo x; [ $((RANDOM % 2)) = 0 ] || sleep 1000"]
        self._bundles = {shim.new_id(): str(shim.make_bundle(args)) for _ in range(3)}

    def call(self) -> tuple[str, dict[str, object]]:
        name = self._dice.choice(list(self._bundles))
        exec_id = self._dice.choice(["", "", "e", "f"])
        calls: list[tuple[int, str, dict[str, object]]] = [
            (4, "Create", {"bundle": self._bundles[name], "options": self._options}),
            (6, "Start", {"exec_id": exec_id}),
            (4, "Exec", {"exec_id": exec_id or "e", "spec": SPEC}),
            (3, "Delete", {"exec_id": exec_id}),
            (1, "Kill", {"exec_id": exec_id, "signal": 9}),
            (1, "Kill", {"signal": 9, "all": True}),
            (1, "Pause", {}),
            (2, "Resume", {}),
            (1, "State", {"exec_id": exec_id}),
            (1, "Pids", {}),
            (1, "Stats", {}),
            (1, "CloseIO", {"exec_id": exec_id, "stdin": True}),
            (1, "Wait", {"exec_id": exec_id}),
        ]
        ((_, method, fields),) = self._dice.choices(calls, [weight for weight, *_ in calls])
        return method, {"id": name, **fields}


def test_a_storm(shim, runtime):
    storm = Storm(shim, runtime, seed=20261126)
    clients: list[Connection] = [shim.process.connect() for _ in range(CLIENTS)]
    running = []
    count = CALLS if runtime != "runsc" else CALLS // 4
    for number in range(count):
        method, fields = storm.call()
        pending = clients[number % CLIENTS].begin(method, **fields)
        if method != "Wait":
            running.append((method, pending))
        if len(running) >= AT_ONCE:
            check(*running.pop(0))
    for method, pending in running:
        check(method, pending)
    for client in clients:
        client.client.close()
    assert shim.call("Connect", id="x").shim_pid == shim.process.pid


def check(method: str, pending) -> None:
    try:
        pending.result()
    except ShimError as error:
        assert not isinstance(error, Internal), f"{method}: {error}"  # noqa: PT017 - an error is a right answer
