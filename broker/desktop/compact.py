"""Make of an image, whatever its format and however many its layers, one small file that a node takes.

Zero and discarded clusters are left out; the rest is compressed where its own bytes say that it pays: an image that is
compressed already, or holds random bytes, is not copied for nothing. The result depends on the disk's content alone, so
that a machine handed over again is recognised by its digest.
"""

import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from broker.desktop.failure import DesktopFailure
from broker.desktop.images import Image
from broker.desktop.programs import run

_CONVERT_S = 24 * 3600.0
_MEASURE_S = 600.0
_SAMPLES = 64
_SAMPLE_BYTES = 65_536
_MAX_EXTENTS = 100_000
_WORTH_SHARE = 0.1
_WORTH_BYTES = 1024 * 1024
"""A copy is made when it saves a tenth of the file, and at least this much."""
_PERCENT = re.compile(rb"\(([0-9]{1,3}\.[0-9]{2})/100%\)")
_ZSTD_IS_UNKNOWN = "compression_type"

Told = Callable[[int], None]
"""Told the parts of 10,000 of the work that were done since it was last told."""
TOLD_PARTS = 10_000


class _Measure(msgspec.Struct, rename="kebab"):
    """`qemu-img measure --output=json`."""

    required: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a copy takes. `largest_bytes` bounds the copy's size, `estimated_bytes` guesses it from samples."""

    largest_bytes: int
    estimated_bytes: int
    pays: bool


async def plan_copy(what: str, image: Image) -> Plan:
    """Foretell the copy of an image.

    Raises:
        DesktopFailure: qemu-img cannot read it.
    """
    top = image.top
    arguments = ("measure", "--output=json", "-O", "qcow2", "-f", top.format, str(top.path))
    ended = await run("qemu-img", *arguments, timeout_s=_MEASURE_S)
    if ended.status != 0:
        raise DesktopFailure(f"{what}: {top.path} cannot be measured: {ended.reason}")
    largest_bytes = msgspec.json.decode(ended.out, type=_Measure).required
    estimated_bytes = int(largest_bytes * _compressed_share(image))
    saved_bytes = top.file_bytes - estimated_bytes
    pays = not image.is_whole or saved_bytes > max(_WORTH_BYTES, _WORTH_SHARE * top.file_bytes)
    return Plan(largest_bytes=largest_bytes, estimated_bytes=estimated_bytes, pays=pays)


async def make_copy(what: str, image: Image, copy: Path, told: Told) -> None:
    """Write the image's content to one compressed qcow2.

    The same content gives the same bytes. zstd where this desktop's qemu-img has it: four times as fast as zlib.

    Raises:
        DesktopFailure: qemu-img failed; the image itself is never written.
    """
    top, progress = image.top, _Progress(told)
    source = ("-f", top.format, str(top.path), str(copy))
    fixed = ("convert", "-p", "-c", "-O", "qcow2")
    ended = await run(
        "qemu-img", *fixed, "-o", "compression_type=zstd", *source, timeout_s=_CONVERT_S, heard=progress.heard
    )
    if ended.status != 0 and _ZSTD_IS_UNKNOWN in ended.err:
        ended = await run("qemu-img", *fixed, *source, timeout_s=_CONVERT_S, heard=progress.heard)
    if ended.status != 0:
        raise DesktopFailure(f"{what}: {top.path} cannot be copied: {ended.reason}")


class _Progress:
    """Reads what `qemu-img convert -p` writes."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._parts = 0

    def heard(self, chunk: bytes) -> None:
        for percent in _PERCENT.findall(chunk):
            parts = round(float(percent) * TOLD_PARTS / 100)
            self._told(parts - self._parts)
            self._parts = parts


def _compressed_share(image: Image) -> float:
    """Return how small the image's data become, from samples of each layer: 1.0 where nothing is gained."""
    taken = packed = 0
    for layer in image.layers:
        for sample in _samples(layer.path, layer.file_bytes):
            taken += len(sample)
            packed += min(len(sample), len(zlib.compress(sample, 1)))
    return packed / taken if taken else 1.0


def _samples(path: Path, size_bytes: int) -> Iterator[bytes]:
    """Yield pieces of a file, evenly spaced over its data: holes would pass for something that compresses well."""
    with path.open("rb", buffering=0) as file:
        extents = list(islice(_extents(file.fileno(), size_bytes), _MAX_EXTENTS))
        step_bytes = max(_SAMPLE_BYTES, sum(end - start for start, end in extents) // _SAMPLES)
        skipped_bytes = 0
        for start, end in extents:
            for position in range(start + skipped_bytes, end, step_bytes):
                yield os.pread(file.fileno(), min(_SAMPLE_BYTES, end - position), position)
            skipped_bytes = (skipped_bytes - (end - start)) % step_bytes


def _extents(descriptor: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield where a file's data begin and end. Source: lseek(2), `SEEK_DATA`."""
    end = 0
    while end < size_bytes:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole follows
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
