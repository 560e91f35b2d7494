"""The answer as ClassAd attributes, a line each.

Source: HTCondor's manual, "Startd Cron and Schedd Cron", `STARTD_CRON_<JobName>_EXECUTABLE`; "ClassAd Syntax", strings.
"""

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from broker.wire.states import Accelerator, Exchange
from launcher.exchange.printable import printable
from launcher.images.public_names import image_attribute

MOST_IMAGES: Final = 64
_REASON_CHARACTERS: Final = 500


class CannotRun(Exception):
    """No vm can run here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is told; None and empty are not.

    Attributes:
        reason: Why no vm can run here, or what the probe of the accelerator said.
        version: The launcher's.
        accelerator: Told where vms can run.
        vcpus: What vms may have here, and so `memory_mib`, QEMU's own included.
        exchanges: How files get into and out of a vm here.
        images: Digests of public images in the cache.
    """

    reason: str
    version: str
    can_run: bool = False
    accelerator: Accelerator | None = None
    vcpus: int | None = None
    memory_mib: int | None = None
    exchanges: tuple[Exchange, ...] = ()
    images: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield `Name = value` for each attribute."""
        yield f"CAN_RUN_VIRTUAL_MACHINE = {'true' if self.can_run else 'false'}"
        yield f"VMBROKER_REASON = {quoted(printable(' '.join(self.reason.split()), _REASON_CHARACTERS))}"
        if self.accelerator is not None:
            yield f"VMBROKER_ACCELERATOR = {quoted(self.accelerator.value)}"
        if self.vcpus is not None:
            yield f"VMBROKER_VCPUS = {self.vcpus}"
        if self.memory_mib is not None:
            yield f"VMBROKER_MEMORY_MIB = {self.memory_mib}"
        if self.exchanges:
            yield f"VMBROKER_EXCHANGES = {quoted(','.join(self.exchanges))}"
        yield f"VMBROKER_VERSION = {quoted(self.version)}"
        for digest in self.images[:MOST_IMAGES]:
            yield f"{image_attribute(digest)} = true"


def launcher_version() -> str:
    """Return the version that is told."""
    return importlib.metadata.version("vmbroker")


def quoted(text: str) -> str:
    """Return a ClassAd string of a text without line ends; in ASCII, whatever the batch system's locale."""
    escaped = text.encode("ascii", "replace").decode().replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
