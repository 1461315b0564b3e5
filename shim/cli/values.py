"""Types of values on the command line: what they become, and how a shell completes them.

A value that cannot be right is a usage error that names it (exit code 2).
"""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from shim.cli.settings import Settings
from shim.errors import InvalidArgument, ShimError
from shim.oci.identifiers import validate_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "CATALOG",
    "CONTAINER",
    "DETACH_KEYS",
    "ENV",
    "RUNTIME",
    "SIGNAL",
    "Value",
    "parse_detach_keys",
    "parse_signal",
]

_T = TypeVar("_T")

CATALOG = "catalog:"
"""What the name of a runtime of the catalog begins with, where others may be meant."""

# _NSIG of the kernel: the standard library knows only the names of 1 to 31, RTMIN (34) and RTMAX (64).
_LAST_SIGNAL = 64
_SIGNAL = re.compile(r"(?:SIG)?([A-Z][A-Z0-9]*)(?:([+-]\d{1,2}))?", re.ASCII)
_NAMES = {member.name.removeprefix("SIG"): member.value for member in signal.Signals}

# ioctl_tty(2), "control characters": ctrl-a is 1, ctrl-z is 26, and five more follow.
_CONTROL = "abcdefghijklmnopqrstuvwxyz[\\]^_"


def parse_signal(text: str) -> int:
    """The number of the signal that ``9``, ``KILL``, ``sigkill`` or ``RTMIN+3`` mean.

    Raises:
        InvalidArgument: there is no such signal.
    """
    number = 0
    if text.isascii() and text.isdigit():
        number = int(text[:4])
    elif match := _SIGNAL.fullmatch(text.upper()):
        name, offset = match.groups()
        number = _NAMES.get(name, 0) + int(offset or 0)
        # Names that could be meant as sums, SIGKILL+1 above all, are not.
        if offset and not (name.startswith("RT") and _NAMES["RTMIN"] <= number <= _NAMES["RTMAX"]):
            number = 0
    if not 1 <= number <= _LAST_SIGNAL:
        raise InvalidArgument(f"{text!r} is no signal; use a number or a name such as TERM or RTMIN+1")
    return number


def parse_detach_keys(text: str) -> bytes:
    r"""The bytes that a terminal sends for ``ctrl-p,ctrl-q`` or ``a,ctrl-b``; empty text means none.

    Raises:
        InvalidArgument: a key is neither one character nor ctrl- and a letter or one of ``[\\]^_@``.
    """
    keys = bytearray()
    for key in text.split(",") if text else []:
        control = key.lower().removeprefix("ctrl-")
        if len(key) == 1 and key.isascii():
            keys += key.encode()
        elif key != control and control in _CONTROL and len(control) == 1:
            keys.append(_CONTROL.index(control) + 1)
        elif control == "@" and key != control:
            keys.append(0)
        else:
            raise InvalidArgument(f"{key!r} in {text!r} is no key; use one such as a or ctrl-p")
    return bytes(keys)


def _parse_variable(text: str) -> str:
    name, separator, _ = text.partition("=")
    if not name:
        raise InvalidArgument(f"{text!r} is no variable; use NAME=value, or NAME for the value it has here")
    if not separator and name not in os.environ:
        raise InvalidArgument(f"{name} is not set here; use {name}=value")
    return text if separator else f"{name}={os.environ[name]}"


def _parse_runtime(text: str) -> str:
    # The shim has another working directory than we have.
    return os.path.abspath(text) if "/" in text and not text.startswith(CATALOG) else text


def _runtimes(ctx: click.Context, _param: click.Parameter) -> Iterable[str]:
    from shim.catalog import Catalog  # noqa: PLC0415 - start-up time

    options = ctx.find_root().params
    try:
        config = Settings(options.get("state_root"), options.get("config_path")).config
        found = Catalog(config.storage, config.data_root).runtimes()
    except ShimError:
        found = []
    return ("runc", "crun", "runsc", *(CATALOG + runtime.name for runtime in found))


def _container_ids(ctx: click.Context, param: click.Parameter) -> Iterable[str]:
    options = ctx.find_root().params
    if options.get("host") is not None:
        return []  # those of this host are others
    try:
        ids = Settings(options.get("state_root"), options.get("config_path")).containers.ids()
    except ShimError:
        return []
    given = ctx.params.get(param.name or "") or ()
    return (name for name in ids if name not in given)


class Value(click.ParamType[_T]):
    """A type made of a parser, which raises InvalidArgument, and of what can be offered for completion."""

    def __init__(
        self,
        name: str,
        parse: Callable[[str], _T],
        offer: Callable[[click.Context, click.Parameter], Iterable[str]] = lambda _ctx, _param: (),
    ) -> None:
        self.name = name
        self._parse = parse
        self._offer = offer

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> _T | Any:
        """What the text means; defaults, which are no text, stay as they are."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except InvalidArgument as error:
            return self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """What begins as ``incomplete`` does, in either case of letters."""
        found = self._offer(ctx, param)
        return [CompletionItem(word) for word in found if word.lower().startswith(incomplete.lower())]


CONTAINER = Value("id", validate_id, _container_ids)
DETACH_KEYS = Value("keys", parse_detach_keys)
ENV = Value("variable", _parse_variable)
RUNTIME = Value("runtime", _parse_runtime, _runtimes)
SIGNAL = Value("signal", parse_signal, lambda _ctx, _param: _NAMES)
