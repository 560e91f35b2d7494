"""What is told about a researcher's XML: refusals with their remedy, and changes with their reason."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that a vm cannot be given: where it stands, why it is refused, what its owner does about it."""

    path: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a vm gets otherwise than its XML says, or not at all."""

    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


class XmlRefused(Exception):
    """The XML asks for what no vm gets: its owner has to change it. Holds all refusals at once."""

    def __init__(self, refusals: Iterable[Refusal]) -> None:
        self.refusals = tuple(refusals)
        super().__init__("\n".join(map(str, self.refusals)))
