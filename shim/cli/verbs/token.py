"""``ocishim token``: who may use the API, and what its policies let it do.

Tokens are made where they are kept: whoever may read those files may do all, and needs no token for it.
"""

from __future__ import annotations

import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shim.cli import options, output
from shim.cli.settings import Settings, pass_settings
from shim.cli.values import Value
from shim.cli.vault_style import (
    VaultCommand,
    field_option,
    format_option,
    in_json,
    print_answer,
    print_columns,
    tokens,
)
from shim.errors import InvalidArgument, PermissionDenied, from_os_error

if TYPE_CHECKING:
    from shim.catalog import Token, Tokens

__all__ = ["command"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:\d{1,9}[smhd])+|\d{1,12}", re.ASCII)
_DEFAULT_TTL = "768h"


def parse_duration(text: str) -> int:
    """Seconds: ``90``, ``15m``, ``1h30m``, ``30d``.

    Raises:
        InvalidArgument: it is none.
    """
    if not _DURATION.fullmatch(text):
        raise InvalidArgument(f"{text!r} is no duration; use seconds, or such as 15m, 1h30m or 30d")
    if text.isdigit():
        return int(text)
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))


_TTL = Value("duration", parse_duration)
_SECRET = click.argument("token", cls=options.Argument, metavar="TOKEN|ACCESSOR|-")
# Vault's command line must be told; here an accessor is known as such.
_ACCESSOR = click.option("--accessor", is_flag=True, hidden=True, expose_value=False)


@click.group("token")
def command() -> None:
    """Make and revoke the tokens of the API, and write its policies."""


@command.command("create", cls=VaultCommand)
@click.option("--policy", "policies", metavar="NAME", multiple=True, help="A policy; any number of them.")
@click.option("--root", is_flag=True, help="One that may do all, and never ends.")
@click.option(
    "--ttl", type=_TTL, metavar="TIME", help=f"How long it lives; 0: for ever. [default: {_DEFAULT_TTL}]"
)
@click.option("--display-name", default="", metavar="NAME", help="For people who read lists and logs.")
@click.option("--no-default-policy", is_flag=True, help="Without the policy default.")
@field_option
@format_option
@pass_settings
def create(
    settings: Settings,
    /,
    *,
    ttl: int | None,
    no_default_policy: bool,
    field: str,
    as_json: bool,
    **members: Any,
) -> None:
    """Make a token, and print it. It is shown this once.

    \b
      ocishim token create -policy=ops -ttl=24h
      export VAULT_TOKEN=$(ocishim token create --root --field token)
    """  # noqa: D301 - click's mark for lines that stay as they are
    for_ever = members["root"] or "root" in members["policies"]
    if ttl is None and not for_ever:
        ttl = parse_duration(_DEFAULT_TTL)
    kept = tokens(settings)
    secret, token = kept.create(ttl_s=ttl or None, default=not no_default_policy, **members)
    data = {
        "token": secret,
        "token_accessor": token.accessor,
        "token_duration": token.ttl_s(token.created_at),
        "token_renewable": False,
        "token_policies": list(token.policies),
    }
    if not field and not in_json(as_json):
        data["token_duration"] = _remaining(token, token.created_at)
    print_answer(data, as_json=as_json, field=field)
    for name in sorted({*token.policies} - {*kept.policies()}):
        output.warn(f"there is no policy {name} yet")


@command.command("list", cls=VaultCommand)
@format_option
@pass_settings
def list_(settings: Settings, /, *, as_json: bool) -> None:
    """List the tokens that can be used; their secrets are not known."""
    found = tokens(settings).list()
    if in_json(as_json):
        output.print_json([token.to_data() for token in found])
        return
    now = time.time()
    print_columns(
        ("Accessor", "Display Name", "Policies", "TTL", "Created"),
        (
            (t.accessor, t.display_name, " ".join(t.policies), _remaining(t, now), _moment(t.created_at))
            for t in found
        ),
    )


@command.command("lookup", cls=VaultCommand)
@_SECRET
@_ACCESSOR
@field_option
@format_option
@pass_settings
def lookup(settings: Settings, /, token: str, *, field: str, as_json: bool) -> None:
    """Show what is known of a token. With - it is read from stdin, where nobody sees it in a list of processes."""
    found = _find(tokens(settings), _read(token))
    now = time.time()
    data = {
        "accessor": found.accessor,
        "creation_time": int(found.created_at),
        "display_name": found.display_name,
        "expire_time": "" if found.expires_at is None else _moment(found.expires_at),
        "policies": list(found.policies),
        "ttl": found.ttl_s(now),
    }
    if not field and not in_json(as_json):
        data["ttl"] = _remaining(found, now)
    print_answer(data, as_json=as_json, field=field)


@command.command("revoke", cls=VaultCommand)
@_SECRET
@_ACCESSOR
@pass_settings
def revoke(settings: Settings, /, token: str) -> None:
    """End a token, at once. With - it is read from stdin."""
    tokens(settings).revoke(_read(token))
    output.say("Success! Revoked token")


@command.group("policy")
def policy() -> None:
    """Write, read, list and delete policies."""


@policy.command("write", cls=VaultCommand)
@click.argument("name", cls=options.Argument, metavar="NAME")
@options.file_or_stdin
@pass_settings
def write(settings: Settings, /, name: str, file: str) -> None:
    """Write the policy NAME, in Vault's HCL or in JSON. Every token that has it has it so from now on.

    \b
      path "sys/plugins/runtimes/catalog/*" {
        capabilities = ["create", "read", "update", "delete", "list", "sudo"]
      }
    """  # noqa: D301 - click's mark for lines that stay as they are
    tokens(settings).put_policy(name, _text(file))
    output.say(f"Success! Uploaded policy: {name.lower()}")


@policy.command("read", cls=VaultCommand)
@click.argument("name", cls=options.Argument, metavar="NAME")
@pass_settings
def read(settings: Settings, /, name: str) -> None:
    """Print a policy as it was written."""
    click.echo(tokens(settings).policy(name), nl=False)


@policy.command("list", cls=VaultCommand)
@format_option
@pass_settings
def list_policies(settings: Settings, /, *, as_json: bool) -> None:
    """List the policies."""
    found = tokens(settings).policies()
    if in_json(as_json):
        output.print_json(found)
    else:
        for name in found:
            output.say(name)


@policy.command("delete", cls=VaultCommand)
@click.argument("name", cls=options.Argument, metavar="NAME")
@pass_settings
def delete(settings: Settings, /, name: str) -> None:
    """Delete a policy. One that is not there is no error."""
    tokens(settings).delete_policy(name)
    output.say(f"Success! Deleted policy: {name.lower()}")


def _find(kept: Tokens, token: str) -> Token:
    try:
        return kept.lookup(token)
    except PermissionDenied:
        return kept.token(token)


def _read(word: str) -> str:
    return sys.stdin.readline().strip() if word == "-" else word


def _text(file: str) -> str:
    try:
        return (sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).decode()
    except OSError as error:
        raise from_os_error(error, f"{file} cannot be read") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{file} is no text: {error}") from error


def _remaining(token: Token, now: float) -> str:
    left = token.ttl_s(now)
    parts = [(left // 3600, "h"), (left % 3600 // 60, "m"), (left % 60, "s")]
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "∞"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
