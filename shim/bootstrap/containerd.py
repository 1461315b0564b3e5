"""``containerd-shim-ocishim-v2``: what containerd executes to start a shim, to clear away after one, and to ask what it is.

    start    prints the address of a shim that serves the container, a new one or its pod's
    delete   clears away a container whose shim is gone; prints how it ended
    -info    prints what the runtime can do
    -v       prints the version

containerd takes stdout and stderr of ``start`` together for the answer, up to the end of the file: on success nothing else may
be printed, and the shim process must not hold them open.

Source: containerd docs/runtime-v2.md, pkg/shim/shim.go.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shim import __version__, config
from shim.bootstrap import arguments, params
from shim.bootstrap.listener import containerd_socket, listen
from shim.bootstrap.placement import group_of, join_cgroup, raise_oom_score
from shim.bootstrap.start import Interpreter, Plan
from shim.errors import AlreadyExists, InvalidArgument, ShimError
from shim.oci.identifiers import validate_id, validate_namespace
from shim.service.options import save_start_options, with_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.bootstrap.arguments import Invocation
    from shim.bootstrap.start import Starter

__all__ = ["main"]

# containerd kills a delete after 5 s; what is left to do when a runtime hangs takes less than the rest of them.
_RUNTIME_S = 3.0


def main(argv: Sequence[str] | None = None, starter: Starter | None = None) -> int:
    """Do what the command line says; returns the exit status, 1 with one line on stderr for an error.

    A shim is started by ``starter``; None: in an interpreter of its own.
    """
    invocation = arguments.parse(sys.argv[1:] if argv is None else argv)
    try:
        if invocation.version:
            print(f"containerd-shim-ocishim-v2:\n  Version: {__version__}")  # noqa: T201 - the answer
        elif invocation.info:
            _info()
        elif invocation.action == "start":
            _start(invocation, starter or Interpreter())
        elif invocation.action == "delete":
            _delete(invocation)
        else:
            raise InvalidArgument(
                f"unknown action {invocation.action!r}; known: {', '.join(arguments.ACTIONS)}"
            )
    except (ShimError, OSError) as error:
        print(f"containerd-shim-ocishim-v2: {error}", file=sys.stderr)  # noqa: T201 - the answer
        return 1
    return 0


def _start(invocation: Invocation, starter: Starter) -> None:
    _check(invocation)
    told = params.parse(_stdin(), invocation)
    settings = with_options(config.load(), told.options)
    bundle = Path.cwd()
    if told.options.type_url and _of_sandbox(bundle):
        save_start_options(bundle, told.options)
    group = group_of(bundle, invocation.id, settings.group)
    directory = told.socket_dir or starter.socket_dir
    path = containerd_socket(directory, invocation.address, invocation.namespace, group)
    # Before there is a socket: whoever kills us clears away with delete, which finds by this file what to remove. And containerd
    # up to 1.7 finds the shim again by it; newer ones write their own.
    _write_whole(bundle / "address", f"unix://{path}")
    try:
        listener = listen(path)
    except AlreadyExists:
        # The shim of the pod's first container serves this one, too.
        _answer(bundle, path, modern=told.modern)
        return
    except ShimError:
        with suppress(OSError):
            os.unlink(bundle / "address")
        raise
    env = dict(os.environ)
    if told.ttrpc_address:
        env["TTRPC_ADDRESS"] = told.ttrpc_address
    debug = invocation.debug or told.debug
    plan = Plan(listener, path, invocation.namespace, invocation.id, str(bundle), env, debug)
    try:
        with listener:
            pid = starter.start(plan)
        try:
            join_cgroup(pid, settings.shim_cgroup)
            raise_oom_score(pid, starter.caller)
            _answer(bundle, path, modern=told.modern)
        except BaseException:
            starter.give_up(pid)
            raise
    except BaseException:
        for file in (path, bundle / "address"):
            with suppress(OSError):
                os.unlink(file)
        raise


def _answer(bundle: Path, path: str, *, modern: bool) -> None:
    address = f"unix://{path}"
    if modern:
        with suppress(FileExistsError):
            (bundle / "s").symlink_to(Path(path).parent)
    # Version 3 of the API is for sandboxes, which 2.0 and newer alone make. To all else the answer is the plain address, which
    # means version 2 to each of them. After a 3 for a pod's pause container, containerd (2.1.9, tried) brings the pod's other
    # containers without a start of their own, which saves some milliseconds each, and without a delete: what is left of them
    # when a shim is killed goes on running, and no exit is published. 1.7 refuses a 3, and nothing in its start tells it from 2.0.
    if _of_sandbox(bundle):
        answer = json.dumps({"version": 3, "address": address, "protocol": "ttrpc"})
    else:
        answer = address
    sys.stdout.write(answer)
    sys.stdout.flush()


def _of_sandbox(bundle: Path) -> bool:
    # containerd gives those of containers a config.json.
    return not (bundle / "config.json").exists()


def _delete(invocation: Invocation) -> None:
    from shim.bootstrap.delete import delete_from_disk  # noqa: PLC0415 - start does not pay for it
    from shim.proto.task_v3_pb2 import DeleteResponse  # noqa: PLC0415

    _check(invocation)
    # For a container that shares a shim containerd runs this in the bundle of the shim's first container.
    bundle = Path(invocation.bundle) if invocation.bundle else Path.cwd().parent / invocation.id
    try:
        remains = delete_from_disk(bundle, _RUNTIME_S)
    finally:
        _remove_dead_socket(bundle)
    response = DeleteResponse(pid=remains.pid, exit_status=remains.exit.status)
    response.exited_at.FromNanoseconds(remains.exit.exited_at_ns)
    sys.stdout.buffer.write(response.SerializeToString())
    sys.stdout.buffer.flush()


def _remove_dead_socket(bundle: Path) -> None:
    try:
        path = (bundle / "address").read_text(encoding="utf-8").removeprefix("unix://")
    except (OSError, UnicodeDecodeError):
        return
    if not path.startswith("/") or "\0" in path:
        return
    # Binding it shows whether anybody listens there, and replaces a dead one; then it can go.
    with suppress(ShimError), listen(path):
        os.unlink(path)


def _info() -> None:
    from shim.bootstrap.info import runtime_info  # noqa: PLC0415 - start does not pay for it

    sys.stdout.buffer.write(runtime_info(_stdin()))
    sys.stdout.buffer.flush()


def _check(invocation: Invocation) -> None:
    if not invocation.namespace:
        raise InvalidArgument("shim namespace cannot be empty")
    validate_namespace(invocation.namespace)
    validate_id(invocation.id)


def _stdin() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        return b""
    data = sys.stdin.buffer.read(params.MAX_STDIN + 1)
    if len(data) > params.MAX_STDIN:
        raise InvalidArgument(f"more than {params.MAX_STDIN} bytes on stdin")
    return data


def _write_whole(path: Path, text: str) -> None:
    # Two that start at once write the same, but not into each other's file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    sys.exit(main())
