"""What of the output folder is uploaded: regular files that a pattern matches, within the work."""

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broker.wire.states import FailureCode
from guest.steps.failure import StepFailed
from guest.steps.work import Work

_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
"""Control characters, backslash, and what Python puts for bytes that are no UTF-8."""
MAX_NAME_BYTES = 512
BYTES_PER_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Output:
    """A file to upload: `name` is its path below the output folder."""

    name: str
    path: Path
    size_bytes: int

    def sha256(self) -> bytes:
        with os.fdopen(os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()


def collect(folder: Path, work: Work) -> list[Output]:
    """List the files to upload, by name. Symbolic links, and all that is no regular file, are left out.

    A pattern is matched against the path below the folder; `*` matches `/` too.

    Raises:
        StepFailed: too many, too large, or a name that no address should carry.
    """
    found: list[Output] = []
    total_bytes = 0
    for output in _regular_files(folder):
        if not any(fnmatch.fnmatchcase(output.name, pattern) for pattern in work.output_files):
            continue
        _check_name(output.name)
        found.append(output)
        total_bytes += output.size_bytes
        if len(found) > work.max_outputs:
            raise _refused(f"the program wrote more than {work.max_outputs} output files, the most that are taken")
        if total_bytes > work.output_mib * BYTES_PER_MIB:
            raise _refused(f"the output is larger than the stream's limit of {work.output_mib} MiB")
    return sorted(found, key=lambda output: output.name)


def _regular_files(folder: Path) -> Iterator[Output]:
    for parent, _, names in os.walk(folder, followlinks=False):
        for name in names:
            path = Path(parent, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                yield Output(path.relative_to(folder).as_posix(), path, status.st_size)


def _check_name(name: str) -> None:
    if _UNSAFE.search(name) or len(name.encode()) > MAX_NAME_BYTES:
        raise _refused(
            f"the output file {name[:MAX_NAME_BYTES]!a} cannot be uploaded under its name: control characters, "
            f"backslashes, bytes that are no UTF-8 and more than {MAX_NAME_BYTES} bytes are refused"
        )


def _refused(sentence: str) -> StepFailed:
    return StepFailed(FailureCode.OUTPUT_REFUSED, sentence)
