"""Names of users, jobs, machines and items: `USER/JOB` is a stream, `USER/JOB/17` an item in it."""

import re
from typing import NamedTuple, NewType

UserName = NewType("UserName", str)
DispatchId = NewType("DispatchId", str)
"""A random UUID in its canonical text; also the UUID of the vm's libvirt domain."""
Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hexadecimal digits."""

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_NAME = re.compile(NAME_PATTERN)
_NUMBER = re.compile(r"[1-9][0-9]{0,14}")
_DISPATCH = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class BadName(ValueError):
    """A name that breaks the rule; its text is a sentence for the person who wrote it."""


def check_name(text: str, what: str) -> str:
    """Return `text` when it is a valid name of a `what` (user, stream, machine).

    Raises:
        BadName: when it is not; show its text.
    """
    if not _NAME.fullmatch(text) or ".." in text:
        raise BadName(
            f"{text!r} is no name of a {what}: use 1 to 63 letters, digits, '.', '_' or '-', "
            "the first a letter or digit, without '..'"
        )
    return text


def is_dispatch(text: str) -> bool:
    """Tell whether a text can be a dispatch's id: a UUID as it is written canonically."""
    return _DISPATCH.fullmatch(text) is not None


def check_digest(text: str) -> Digest:
    """Return `text` when it is `sha256:` and 64 hexadecimal digits.

    Raises:
        BadName: when it is not.
    """
    if not _DIGEST.fullmatch(text):
        raise BadName(f"{text!r} is no digest: write sha256: and 64 lower-case hexadecimal digits")
    return Digest(text)


class OwnedName(NamedTuple):
    """`USER/NAME`: a stream or a machine."""

    user: UserName
    name: str

    def __str__(self) -> str:
        return f"{self.user}/{self.name}"


StreamRef = OwnedName
MachineRef = OwnedName


class ItemRef(NamedTuple):
    """`USER/JOB/NUMBER`: an item; numbers start at 1 and grow in the order of the pushes."""

    stream: StreamRef
    number: int

    def __str__(self) -> str:
        return f"{self.stream}/{self.number}"


def parse_owned(text: str, own: str | None, what: str) -> OwnedName:
    """Read `NAME` or `USER/NAME`; a missing user is `own`.

    Raises:
        BadName: on any other shape, or when there is no user to put in.
    """
    user, slash, name = text.rpartition("/")
    if not slash:
        if own is None:
            raise BadName(f"{text!r} names no user: write USER/{text}")
        user = own
    return OwnedName(UserName(check_name(user, "user")), check_name(name, what))


def parse_item(text: str, own: str | None) -> ItemRef:
    """Read `JOB/17` or `USER/JOB/17`.

    Raises:
        BadName: on any other shape.
    """
    stream, slash, number = text.rpartition("/")
    if not slash or not _NUMBER.fullmatch(number):
        raise BadName(f"{text!r} names no item: write JOB/NUMBER or USER/JOB/NUMBER, for example render/17")
    return ItemRef(parse_owned(stream, own, "stream"), int(number))
