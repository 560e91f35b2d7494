"""An item by the files of a folder that launcher and guest share: `in` is read only by agreement, `out` is ours.

The launcher may look at any time; what it finds counts once `result.json` is there, which is written last, and under
another name first, when all the rest is on the node's disk.
"""

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from broker.wire.exchange import (
    INPUT_FOLDER,
    INPUTS_FOLDER,
    ITEM_FILE,
    LAYOUT_VERSION,
    LOG_FILE,
    MAX_ITEM_BYTES,
    OUTPUT_FOLDER,
    RESULT_FILE,
    SCRIPT_FILE,
    STARTED_FILE,
    ExchangeItem,
    ExchangeResult,
)
from broker.wire.states import FailureCode
from guest.steps.carrier import Delivered, Fetched
from guest.steps.failure import StepFailed
from guest.steps.outputs import Output
from guest.steps.work import Work

CHUNK_BYTES = 1_048_576


class ShareUnreadable(Exception):
    """What is in the shared folder is no item for this client; the text says why."""


@dataclass(slots=True)
class Share:
    """The mounted folder. `deadline_s`, of the monotonic clock, bounds each copy."""

    folder: Path
    deadline_s: float = float("inf")

    @property
    def _in(self) -> Path:
        return self.folder / "in"

    @property
    def _out(self) -> Path:
        return self.folder / "out"

    def read_work(self) -> Work:
        """Read what is to be done.

        Raises:
            ShareUnreadable: it is not there, or not as this client knows it.
        """
        try:
            with (self._in / ITEM_FILE).open("rb") as file:
                given = msgspec.json.decode(file.read(MAX_ITEM_BYTES), type=ExchangeItem)
            script = self._in / SCRIPT_FILE
            text = script.read_text(encoding="utf-8") if script.exists() else ""
        except (OSError, ValueError, RecursionError, msgspec.DecodeError) as error:
            raise ShareUnreadable(f"the shared folder's item cannot be read: {error}") from error
        if given.version != LAYOUT_VERSION:
            raise ShareUnreadable(f"the shared folder has layout {given.version}, this client knows {LAYOUT_VERSION}")
        return Work.of_share(given, text)

    def tell_started(self) -> None:
        """Give the first sign of life.

        Raises:
            OSError: the folder cannot be written.
        """
        (self._out / STARTED_FILE).touch()

    async def fetch_input(self, path: Path, name: str = "") -> Fetched:
        """Copy an input: what a program does to its own must not reach the launcher's.

        Raises:
            StepFailed: with the sentence that the researcher reads.
        """
        folder = Path(INPUTS_FOLDER, name) if name else Path(INPUT_FOLDER)
        try:
            with (self._in / folder / path.name).open("rb") as source, path.open("wb") as target:
                size_bytes, digest = self._copy(source, target)
        except OSError as error:
            raise StepFailed(
                FailureCode.INPUT_UNAVAILABLE, f"the input cannot be copied from the shared folder: {error.strerror}"
            ) from error
        return Fetched(path, size_bytes, digest)

    async def put_output(self, output: Output) -> Delivered:
        """Copy one output.

        Raises:
            StepFailed: it could not be copied.
        """
        target_path = self._out / OUTPUT_FOLDER / output.name
        try:
            target_path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(output.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as source, target_path.open("wb") as target:
                size_bytes, digest = self._copy(source, target)
                _sync(target)
        except OSError as error:
            raise StepFailed(
                FailureCode.UPLOAD_FAILED,
                f"the output {output.name} cannot be copied into the shared folder: {error.strerror}",
            ) from error
        return Delivered(output.name, size_bytes, digest)

    def progress(self) -> str:
        """Tell nothing: nobody asks a guest without a network while it works."""
        return ""

    def write_result(self, result: ExchangeResult, log: bytes) -> None:
        """Write the log, then the result: whoever sees that sees all the rest.

        Raises:
            OSError: the folder cannot be written.
        """
        with (self._out / LOG_FILE).open("wb") as file:
            file.write(log)
            _sync(file)
        draft = self._out / f"{RESULT_FILE}.new"
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(result))
            _sync(file)
        draft.rename(self._out / RESULT_FILE)
        os.sync()

    def _copy(self, source: BinaryIO, target: BinaryIO) -> tuple[int, str]:
        hasher, size_bytes = hashlib.sha256(), 0
        while chunk := source.read(CHUNK_BYTES):
            if time.monotonic() > self.deadline_s:
                raise StepFailed(FailureCode.RUN_TIMEOUT, "the run limit was reached while files were copied")
            target.write(chunk)
            hasher.update(chunk)
            size_bytes += len(chunk)
        return size_bytes, f"sha256:{hasher.hexdigest()}"


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
