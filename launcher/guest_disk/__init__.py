"""The guest disk: a small read-only ext4 image that brings the client into any vm of the node.

It carries an interpreter, its loader and libraries, so that an image needs no Python and no particular libc. Everything
is taken from the launcher's own environment, so the client's version is the launcher's, and images never go stale.
"""

from launcher.guest_disk.cache import GuestDisk, ensure_guest_disk
from launcher.guest_disk.failure import CannotBuildGuestDisk
from launcher.guest_disk.seed import seed_disk

__all__ = ["CannotBuildGuestDisk", "GuestDisk", "ensure_guest_disk", "seed_disk"]
