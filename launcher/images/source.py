"""What a machine wants as a disk, and where it says that this can be had."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from broker.client.session import Session

Renew = Callable[[], Awaitable[str]]
"""Asks the broker for a fresh signed address; raises `CallError`."""


class Image(NamedTuple):
    """The bytes, by their digest, and what the machine takes them for."""

    digest: str
    size_bytes: int
    format: str

    @property
    def file_name(self) -> str:
        return self.digest.replace(":", "-")


@dataclass(frozen=True, slots=True)
class Address:
    """A URL and the session that may call it.

    `is_foreign`: it is the machine's owner's, and not the broker's. `renew` is there when the URL is signed for a
    while.
    """

    session: Session
    url: str
    is_foreign: bool = False
    renew: Renew | None = None

    @property
    def is_public(self) -> bool:
        """Whether anybody may have what is there. An owner's own address may be signed, and then has a query."""
        parts = urlsplit(self.url)
        return self.is_foreign and self.renew is None and not parts.query and "@" not in parts.netloc


class SourceFailed(Exception):
    """The source did not give the image; `is_lasting` when asking again cannot help."""

    def __init__(self, sentence: str, *, is_lasting: bool = False) -> None:
        super().__init__(sentence)
        self.is_lasting = is_lasting


class SourceLied(Exception):
    """The source gave other bytes than the digest and the size name."""
