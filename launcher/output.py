"""How a command prints what it found."""

from enum import StrEnum


class Output(StrEnum):
    """For a person, or for a program."""

    TEXT = "text"
    JSON = "json"
