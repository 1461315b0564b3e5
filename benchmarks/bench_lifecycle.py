"""The life of a container that runs /bin/true: create, start, wait, delete; and what of it is the shim's own.

The runtime alone is called as a shim calls it: create, start, the end of the process by its pidfd, delete.
"""

from __future__ import annotations

import os
import select
import time

import pytest
from harness import peers
from harness.driver import Shim
from harness.rounds import interleave

TRUE = ["/bin/true"]
NULL = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]


def life(peer, workshop):
    def live():
        shim = Shim(peer, workshop, workshop.bundle(TRUE))
        begin = time.perf_counter()
        shim.create().live()
        took = time.perf_counter() - begin
        shim.shutdown()
        return took

    return live


def whole_life(peer, workshop):
    def live():
        bundle = workshop.bundle(TRUE)
        begin = time.perf_counter()
        shim = Shim(peer, workshop, bundle)
        shim.create().live()
        shim.shutdown()
        return time.perf_counter() - begin

    return live


def bare_life(workshop):
    def runc(*words):
        argv = [peers.runtime(), "--root", f"{workshop.folder}/runc", *words]
        pid = os.posix_spawn(argv[0], argv, workshop.env, file_actions=NULL)
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError(f"{argv} fails")

    def live():
        bundle = workshop.bundle(TRUE)
        os.close(bundle.log_fd)
        pid_file = bundle.folder / "init.pid"
        begin = time.perf_counter()
        runc("create", "--bundle", str(bundle.folder), "--pid-file", str(pid_file), bundle.id)
        pidfd = os.pidfd_open(int(pid_file.read_text()))
        runc("start", bundle.id)
        select.select([pidfd], [], [])
        runc("delete", bundle.id)
        os.close(pidfd)
        return time.perf_counter() - begin

    return live


@pytest.mark.beside(peers.BARE)
def test_create_to_delete(compare, record, workshop):
    def collect():
        lives = {name: life(peer, workshop) for name, peer in peers.shims().items()}
        samples = interleave(lives | {peers.BARE: bare_life(workshop)}, 40)
        bare = samples[peers.BARE]
        own = {
            name: [mine - alone for mine, alone in zip(samples[name], bare, strict=True)] for name in lives
        }
        record("own share of create to delete", own)
        return samples

    compare("create to delete", collect)


def test_start_to_shutdown(compare, workshop):
    """The shim process's own start and end included."""
    lives = {name: whole_life(peer, workshop) for name, peer in peers.shims().items()}
    compare("start to shutdown", lambda: interleave(lives, 25))
