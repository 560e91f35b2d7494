"""Machines: a researcher's domain XML and the images of its disks."""

from typing import Literal

from broker.wire.kinds import FromPerson, Message


class Disk(FromPerson, frozen=True, kw_only=True):
    """The image given for one disk target of the XML (`vda`)."""

    digest: str
    size_bytes: int
    format: Literal["qcow2", "raw"] = "qcow2"


class MachineDefinition(FromPerson, frozen=True, kw_only=True):
    """The body of `PUT /v1/machines/{user}/{name}`. The images must have been uploaded before."""

    domain_xml: str
    disks: dict[str, Disk]


class MachineView(Message, frozen=True, kw_only=True):
    """A machine as the broker keeps it; every change makes a new `revision`."""

    machine: str
    revision: int
    domain_xml: str
    disks: dict[str, Disk]
    vcpus: int
    memory_mib: int
    firmware: str
    dropped: list[str] = []
    """Sentences: what of the XML a vm will not get, and why."""


class ImageView(Message, frozen=True, kw_only=True):
    """An image whose bytes the broker holds, and which is the asker's to use."""

    digest: str
    size_bytes: int
