"""Calls to libvirt that wait for one another, and for no other ones."""

import enum
from typing import Final


class Lane(enum.Enum):
    """A slow start holds up no look and no destroy: each kind of call has threads of its own."""

    LOOK = "look"
    CHANGE = "change"
    DESTROY = "destroy"
    OPEN = "open"


# libvirtd answers five calls of a client at once (`max_client_requests`): whatever two of the first three lanes are
# busy with, there is room for one call of the third.
THREADS: Final = {Lane.LOOK: 2, Lane.CHANGE: 2, Lane.DESTROY: 2, Lane.OPEN: 1}
QUEUE_LIMIT_S: Final = {Lane.LOOK: 30.0, Lane.CHANGE: 300.0, Lane.DESTROY: 300.0, Lane.OPEN: 30.0}
