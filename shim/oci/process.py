"""The Process object: what runs, as config.json, an exec request and ``runtime exec --process`` have it.

Source: runtime-spec config.md, "Process"; execve(2) and capabilities(7) for what a change of user does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from shim.errors import InvalidArgument
from shim.oci.schema import (
    BOOLEAN,
    TEXT,
    UINT32,
    UINT64,
    Json,
    array,
    check_object,
    integer,
    load_object,
    record,
    string,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["PROCESS", "derive", "parse", "parse_user", "with_process_terminal"]

_RLIMITS = frozenset(
    {
        "RLIMIT_AS",
        "RLIMIT_CORE",
        "RLIMIT_CPU",
        "RLIMIT_DATA",
        "RLIMIT_FSIZE",
        "RLIMIT_LOCKS",
        "RLIMIT_MEMLOCK",
        "RLIMIT_MSGQUEUE",
        "RLIMIT_NICE",
        "RLIMIT_NOFILE",
        "RLIMIT_NPROC",
        "RLIMIT_RSS",
        "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME",
        "RLIMIT_SIGPENDING",
        "RLIMIT_STACK",
    }
)
_CAPABILITIES = array(TEXT, "a list of strings")

PROCESS = record(
    {
        "args": array(TEXT, "a non-empty list of strings", non_empty=True),
        "cwd": string("an absolute path", lambda s: s.startswith("/")),
    },
    env=array(string("NAME=value", lambda s: s.find("=") > 0), "a list of NAME=value strings"),
    terminal=BOOLEAN,
    consoleSize=record({"height": UINT32, "width": UINT32}),
    user=record(
        uid=UINT32, gid=UINT32, umask=UINT32, additionalGids=array(UINT32, "a list of numbers"), username=TEXT
    ),
    rlimits=array(
        record(
            {
                "type": string("the name of a resource limit such as RLIMIT_NOFILE", _RLIMITS.__contains__),
                "soft": UINT64,
                "hard": UINT64,
            }
        ),
        "a list of objects",
    ),
    capabilities=record(
        bounding=_CAPABILITIES,
        effective=_CAPABILITIES,
        inheritable=_CAPABILITIES,
        permitted=_CAPABILITIES,
        ambient=_CAPABILITIES,
    ),
    noNewPrivileges=BOOLEAN,
    oomScoreAdj=integer(-1000, 1000),
    apparmorProfile=TEXT,
    selinuxLabel=TEXT,
)


def parse(data: bytes, origin: str) -> Json:
    """The Process in the JSON text ``data``.

    Raises:
        InvalidArgument: not JSON, no args, or a member of the wrong type; names ``origin`` and the member.
    """
    return load_object(data, PROCESS, origin)


_USER = re.compile(r"(\d{1,10})(?::(\d{1,10}))?", re.ASCII)


def parse_user(text: str) -> tuple[int, int]:
    """The uid and gid that ``uid`` or ``uid:gid`` mean; the gid is 0 where it is not given.

    Raises:
        InvalidArgument: it is not written like that, or a number does not fit 32 bits. 4294967295 means "no change"
            to the kernel and is refused too.
    """
    match = _USER.fullmatch(text)
    uid, gid = (int(part or 0) for part in match.groups()) if match else (-1, -1)
    if not match or max(uid, gid) >= 2**32 - 1:
        raise InvalidArgument(f"user {text!r} is not a numeric uid or uid:gid")
    return uid, gid


def with_process_terminal(
    process: Mapping[str, Any], *, terminal: bool, size: tuple[int, int] | None = None
) -> Json:
    """``process`` with a terminal of ``size`` (rows, columns), or with none."""
    changed = {key: value for key, value in process.items() if key != "consoleSize"}
    changed["terminal"] = terminal
    if terminal and size:
        changed["consoleSize"] = {"height": size[0], "width": size[1]}
    return changed


def _merged_environment(base: Iterable[str], over: Iterable[str]) -> list[str]:
    """One entry a name, at the place of its first, with the value of its last."""
    by_name = {entry.partition("=")[0]: entry for entry in base}
    by_name.update((entry.partition("=")[0], entry) for entry in over)
    return list(by_name.values())


def _capabilities_of(uid: int, capabilities: Mapping[str, Any]) -> Json:
    """What execve(2) leaves to a process of ``uid`` within the same bounding set.

    Runtimes apply the lists as they stand: without this, an exec as another user would keep root's capabilities.
    """
    bounding = capabilities.get("bounding") or []
    return {"bounding": bounding, **({"permitted": bounding, "effective": bounding} if uid == 0 else {})}


def _with_user(process: Mapping[str, Any], uid: int, gid: int, groups: Sequence[int]) -> Json:
    """``process`` as another user: with these supplementary groups only, and the capabilities that this user has."""
    old = process.get("user") or {}
    changed = {**process, "user": {"uid": uid, "gid": gid}}
    if groups:
        changed["user"]["additionalGids"] = list(groups)
    if old.get("umask") is not None:
        changed["user"]["umask"] = old["umask"]
    if process.get("capabilities") and (old.get("uid") or 0) != uid:
        changed["capabilities"] = _capabilities_of(uid, process["capabilities"])
    return changed


def derive(
    container_process: Mapping[str, Any],
    args: Sequence[str],
    *,
    env: Iterable[str] = (),
    cwd: str | None = None,
    user: tuple[int, int] | None = None,
    groups: Sequence[int] = (),
    terminal: bool = False,
    size: tuple[int, int] | None = None,
) -> Json:
    """A Process that runs ``args`` beside ``container_process``, with everything of that one that is not given here.

    ``env`` adds to or replaces variables, ``user`` is uid and gid, ``groups`` that user's others, ``size`` rows and columns of the terminal.

    Raises:
        InvalidArgument: a value cannot be that of a process, for example an empty ``args`` or a relative ``cwd``.
    """
    process = with_process_terminal(container_process, terminal=terminal, size=size)
    process.pop("commandLine", None)
    process["args"] = list(args)
    process["env"] = _merged_environment(container_process.get("env") or (), env)
    if cwd is not None:
        process["cwd"] = cwd
    if user is not None:
        process = _with_user(process, *user, groups)
    return check_object(process, PROCESS, "exec")
