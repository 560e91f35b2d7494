"""Machines: a researcher's domain XML and the images of its disks."""

from typing import Literal

from broker.wire.kinds import FromPerson, Message


class Disk(FromPerson, frozen=True, kw_only=True):
    """The image given for one disk target of the XML (`vda`)."""

    digest: str
    size_bytes: int
    format: Literal["qcow2", "raw"] = "qcow2"
    url: str | None = None
    """`https:` address of an image that somebody else serves; absent: the broker holds the image."""


class MachineDefinition(FromPerson, frozen=True, kw_only=True):
    """The body of `PUT /v1/machines/{user}/{name}`. The images must have been uploaded before."""

    domain_xml: str
    disks: dict[str, Disk]
    nvram: Disk | None = None
    """The UEFI variables of a UEFI machine; absent: a vm starts with fresh ones."""


class MachineView(Message, frozen=True, kw_only=True):
    """A machine as the broker keeps it; every change makes a new `revision`."""

    machine: str
    revision: int
    domain_xml: str
    disks: dict[str, Disk]
    vcpus: int
    memory_mib: int
    firmware: str
    nvram: Disk | None = None
    dropped: list[str] = []
    """Sentences: what of the XML a vm will not get, and why."""


class ImageView(Message, frozen=True, kw_only=True):
    """An image whose bytes the broker holds, and which is the asker's to use."""

    digest: str
    size_bytes: int


class GrantedImage(Message, frozen=True, kw_only=True):
    """An image of the asker's, with the machines that name it."""

    digest: str
    size_bytes: int
    machines: list[str] = []
    unnamed_since: str | None = None
    """Since when no machine names it; it is removed a day later."""


class MachineReaders(Message, frozen=True, kw_only=True):
    """Whom a machine is shared with: they see it, and may name it in streams of their own."""

    machine: str
    readers: list[str]


class UploadView(Message, frozen=True, kw_only=True):
    """An upload that is not complete yet: `offset_bytes` of it are there. `becomes`: image, part, or file:USER/PATH."""

    upload: str
    digest: str
    size_bytes: int
    offset_bytes: int
    becomes: str = "image"
