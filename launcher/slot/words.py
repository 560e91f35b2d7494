"""What a source says: a quantity, its value, and where it stands."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

MAX_FILE_BYTES: Final = 1 << 20
KIB: Final = 1 << 10
MIB: Final = 1 << 20


class Quantity(Enum):
    VCPUS = "vcpus"
    MEMORY_MIB = "memory_mib"
    DISK_MIB = "disk_mib"
    END_S = "end_s"
    """Seconds since 1970."""


class Fact(NamedTuple):
    """A value, and where it comes from, for a person to read."""

    value: int
    source: str


class Word(NamedTuple):
    quantity: Quantity
    fact: Fact


class Fault(NamedTuple):
    """What stands there and cannot be used, as a sentence."""

    sentence: str


Words = Iterator[Word | Fault]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the sources look: the environment, the root of the file system, and this process's id."""

    environ: Mapping[str, str]
    root: Path = Path("/")
    pid: int | str = "self"

    def is_folder(self, path: str) -> bool:
        """Tell whether there is such a folder, of which this account may know."""
        try:
            return (self.root / path.lstrip("/")).is_dir()
        except OSError:
            return False

    def read(self, path: str | Path) -> str | None:
        """Return a file's text, None when there is no such file.

        Raises:
            OSError: it is there, and cannot be read.
        """
        try:
            with (self.root / str(path).lstrip("/")).open("rb") as file:
                return file.read(MAX_FILE_BYTES).decode("utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None


def words_of(quantity: Quantity, text: str | None, source: str, *, per: int = 1, times: int = 1) -> Words:
    """Yield the whole number that a text is, multiplied and divided to the quantity's unit; nothing without a text.

    A value that comes to less than one is a fault, as is all that is no plain number.
    """
    if text is None:
        return
    try:
        # As float, too: ClassAds and Slurm's plugins write 4.0.
        value = int(text) if text.strip().isdigit() else int(float(text))
    except (ValueError, OverflowError):
        yield Fault(f"{source} is {text[:80]!a}, which is no number")
        return
    if value * times // per < 1:
        yield Fault(f"{source} is {text[:80]!a}, which is less than one")
        return
    yield Word(quantity, Fact(value * times // per, source))
