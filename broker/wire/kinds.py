"""Two kinds of message: a person's, where an unknown field is a typo, and a program's, where it is a newer version."""

import msgspec


class FromPerson(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Sent by a person's tool: unknown fields are refused."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sent by the broker, a launcher or a guest: unknown fields are ignored, versions differ across a grid."""
