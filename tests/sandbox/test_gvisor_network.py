"""What a gVisor sandbox makes of the interfaces that it is given: its own kernel answers there."""

from __future__ import annotations

import asyncio
import socket
import subprocess

import pytest
from support import bed

from shim.net import InterfaceConfig, parse_address, parse_route
from shim.sandbox import create_sandbox, fetch_sandbox

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

HOST_END = "ocishim-gv0"
HOST, SANDBOX = "10.97.0.1", "10.97.0.2"


def host_ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def pings() -> str:
    busybox = str(bed.rootfs() / "bin" / "busybox")
    command = [busybox, "ping", "-c", "1", "-W", "10", SANDBOX]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout


def connected() -> socket.socket:
    return socket.create_connection((SANDBOX, 7000), timeout=10)


async def test_it_answers_and_asks(config, container, state_root):
    bed.need_runtime("runsc")
    server = "while :; do nc -l -p 7000 -e echo hello; done"
    wanted = config(
        runtime="runsc",
        interfaces=(
            InterfaceConfig("eth0", peer_name=HOST_END, addresses=(parse_address(f"{SANDBOX}/24"),)),
        ),
        routes=(parse_route(f"default via {HOST}"),),
        containers=(container("a", server), container("b", "read host; exec nc $host 7001", stdin=True)),
    )
    async with await create_sandbox(wanted, state_root=str(state_root)):
        pass
    host_ip("address", "add", f"{HOST}/24", "dev", HOST_END)
    assert "1 packets received" in await asyncio.to_thread(pings)

    def listens() -> bool:
        try:
            with connected() as link:
                return link.recv(100) == b"hello\n"
        except ConnectionRefusedError:
            return False

    bed.until(listens, "nobody listens in the sandbox")
    with socket.create_server((HOST, 7001)) as listener:
        async with await fetch_sandbox("s1", state_root=str(state_root)) as sandbox:
            stream = await sandbox.io_stream("b", "b")
            stream.stdin.write(f"{HOST}\n".encode())
            listener.settimeout(10)
            link, (peer, _) = await asyncio.to_thread(listener.accept)
            with link:
                assert peer == SANDBOX
                link.sendall(b"from the host\n")
                assert await stream.stdout.readline() == b"from the host\n"
            stream.close()
