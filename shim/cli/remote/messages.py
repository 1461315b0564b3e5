"""Messages of the API as JSON has them: every field, by its name on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["as_data"]


def as_data(message: Message) -> dict[str, Any]:
    """``message``, with what is empty; numbers of 64 bits are texts, as protobuf's JSON has them."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
