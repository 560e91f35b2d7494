"""Two kinds of message: a person's, where an unknown field is a typo, and a program's, where it is a newer version."""

from typing import Any

import msgspec


class FromPerson(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Sent by a person's tool: unknown fields are refused."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sent by the broker, a launcher or a guest: unknown fields are ignored, versions differ across a grid."""


def in_full(message: Message) -> dict[str, Any]:
    """Return a message with every field, defaults too: for those who read it without knowing the defaults."""
    return {
        field.encode_name: _in_full(getattr(message, field.name)) for field in msgspec.structs.fields(type(message))
    }


def _in_full(value: Any) -> Any:
    if isinstance(value, Message):
        return in_full(value)
    if isinstance(value, (list, tuple)):
        return [_in_full(each) for each in value]
    return value
