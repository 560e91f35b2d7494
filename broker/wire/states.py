"""The closed vocabularies of an item's and a vm's life, as they are written on the wire and in the store."""

import re
from enum import StrEnum
from typing import Self

LATER_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")


class ItemState(StrEnum):
    DELAYED = "delayed"
    READY = "ready"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    DONE = "done"
    HELD = "held"
    CANCELLED = "cancelled"


SETTLED = frozenset({ItemState.DONE, ItemState.HELD, ItemState.CANCELLED})


class Priority(StrEnum):
    """In which order a stream's ready items are given out: all of a class before any of the next one."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Phase(StrEnum):
    """What a launcher reports of a vm, in this order, each once."""

    PREPARING = "preparing"
    PREPARED = "prepared"
    BOOTING = "booting"
    STARTED = "started"
    CLAIMED = "claimed"
    ENDED = "ended"


class Verdict(StrEnum):
    """The one coded outcome of a vm."""

    COMPLETED = "completed"
    ITEM_FAILED = "item_failed"
    RUN_TIMEOUT = "run_timeout"
    DISK_EXCEEDED = "disk_exceeded"
    NEVER_CLAIMED = "never_claimed"
    VM_CRASHED = "vm_crashed"
    STOPPED_EARLY = "stopped_early"
    GUEST_LOST = "guest_lost"
    IMAGE_ERROR = "image_error"
    XML_REFUSED = "xml_refused"
    HOST_ERROR = "host_error"
    NETWORK_CUT = "network_cut"
    DRAINED = "drained"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class Instruction(StrEnum):
    """The answer to every extend: what the guest or the launcher does next."""

    CONTINUE = "continue"
    CANCEL = "cancel"
    DRAIN = "drain"
    SUPERSEDED = "superseded"


class Accelerator(StrEnum):
    KVM = "kvm"
    TCG = "tcg"


class Exchange(StrEnum):
    """How files get in and out of a vm."""

    NETWORK = "network"
    """By the guest's client, through the launcher's proxy."""
    SHARED = "shared"
    """By a folder that node and guest share."""
    DISK = "disk"
    """By two small data disks, `VMB_IN` and `VMB_OUT`."""
    ROOTDISK = "rootdisk"
    """By copying into and out of the vm's own disk while the vm is off."""


class Growing(StrEnum):
    """A vocabulary that later launchers add words to: one that is not known here is kept as the text that it is."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str) or not LATER_WORD.fullmatch(value):
            return None
        later = str.__new__(cls, value)
        later._name_, later._value_ = "LATER", value
        return later


class HealthState(Growing):
    """What a launcher makes of its node: whether it asks for items, and how many."""

    HEALTHY = "healthy"
    BACKING_OFF = "backing_off"
    """It offers nothing until a time that it tells, after faults of the node's own."""
    CANARY = "canary"
    """It offers room for one vm, and for more once that vm has claimed."""
    EXCLUDED = "excluded"
    """It took itself out: vms never come to their claim here, and do elsewhere. From time to time it tries one."""
    DRAINING = "draining"
    """It takes nothing more, and ends."""


class HealthCode(Growing):
    """Why a node is not healthy, or what it was that a vm's end says of its node."""

    IMAGE_SOURCE_AWAY = "image_source_away"
    IMAGE_CACHE_FAILED = "image_cache_failed"
    DISK_FULL = "disk_full"
    DISK_FAILED = "disk_failed"
    LIBVIRT_FAILED = "libvirt_failed"
    QEMU_FAILED = "qemu_failed"
    EXCHANGE_FAILED = "exchange_failed"
    VM_INTERFERED = "vm_interfered"
    """Somebody on the node destroyed a vm."""
    NEVER_CLAIMS = "never_claims"
    """Vms boot and do not claim, while others of the same machine did elsewhere."""
    NETWORK_CUT = "network_cut"
    SLOT_ENDS = "slot_ends"
    TOLD_TO_DRAIN = "told_to_drain"
    LAUNCHER_FAILED = "launcher_failed"
    """A bug of the launcher's: its log has the traceback."""


class FailureCode(StrEnum):
    """Why a guest says that its attempt failed."""

    PROGRAM_FAILED = "program_failed"
    PROGRAM_MISSING = "program_missing"
    INPUT_UNAVAILABLE = "input_unavailable"
    OUTPUT_REFUSED = "output_refused"
    UPLOAD_FAILED = "upload_failed"
    RUN_TIMEOUT = "run_timeout"
    SECRET_NOT_KEPT = "secret_not_kept"  # noqa: S105 # the name of a code
    """The vm has no place in memory for the secrets that it was given."""


EXIT_GIVE_BACK = 75
"""The program's exit status that says "not my fault": EX_TEMPFAIL of sysexits.h."""
