"""What an exchange does for an item: brings its input, takes its outputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from guest.steps.outputs import Output


@dataclass(frozen=True, slots=True)
class Fetched:
    path: Path
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """An output that is where its exchange takes it: `url` is where, empty when there is nothing to tell."""

    name: str
    size_bytes: int
    digest: str
    url: str = ""


class Carrier(Protocol):
    async def fetch_input(self, path: Path, name: str = "") -> Fetched:
        """Bring the item's input, or its further one of that name, to `path`.

        Raises:
            StepFailed: with the sentence that the researcher reads.
        """
        ...

    async def put_output(self, output: Output) -> Delivered:
        """Deliver one output.

        Raises:
            StepFailed: it could not be delivered.
        """
        ...

    def progress(self) -> str:
        """Tell how far what is on its way has come, as `1.2 of 3.0 GiB`; empty where there is nothing to tell."""
        ...
