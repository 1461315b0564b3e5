"""What ``start`` is told on stdin, in either of the two forms that containerd has.

Up to 2.2 it is the runtime's options, an Any, or nothing. From 2.3 on it is BootstrapParams, with the options among its
extensions. Each parses as the other: it is BootstrapParams only if it names the id and the namespace of the command line.

Source: containerd pkg/shim/shim.go, readBootstrapParamsFromDeprecatedFields and its comments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from shim.errors import InvalidArgument
from shim.proto.bootstrap_pb2 import BootstrapParams
from shim.service.options import is_options

if TYPE_CHECKING:
    from shim.bootstrap.arguments import Invocation

__all__ = ["MAX_STDIN", "Params", "parse"]

MAX_STDIN = 10 << 20


@dataclass(frozen=True, slots=True)
class Params:
    """``modern``: containerd is 2.3 or newer."""

    modern: bool = False
    options: AnyMessage = field(default_factory=AnyMessage)
    ttrpc_address: str = ""
    socket_dir: str = ""
    debug: bool = False


def parse(data: bytes, invocation: Invocation) -> Params:
    """The parameters in ``data``, all of stdin.

    Raises:
        InvalidArgument: it is neither form.
    """
    try:
        params = BootstrapParams.FromString(data)
        if params.instance_id and (params.instance_id, params.namespace) == (
            invocation.id,
            invocation.namespace,
        ):
            return _modern(params)
    except DecodeError:
        pass
    try:
        return Params(options=AnyMessage.FromString(data))
    except DecodeError as error:
        raise InvalidArgument(
            f"{len(data)} bytes on stdin are neither options nor BootstrapParams: {error}"
        ) from error


def _modern(params: BootstrapParams) -> Params:
    options = [extension.value for extension in params.extensions if is_options(extension.value)]
    return Params(
        modern=True,
        options=options[0] if options else AnyMessage(),
        ttrpc_address=params.containerd_ttrpc_address.removeprefix("unix://"),
        socket_dir=params.socket_dir,
        debug=params.log_level < 0,
    )
