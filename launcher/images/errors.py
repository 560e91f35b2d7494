"""Why a vm has no image, told apart by whose fault it is.

`code` is what it says of the node; None where the machine is what must be mended.
"""

import errno
from typing import ClassVar

from broker.wire.states import HealthCode


class ImageError(Exception):
    """Root of this package's errors; the text is a sentence for a person."""

    code: ClassVar[HealthCode | None] = None


class BadImage(ImageError):
    """The bytes are not what the machine's owner named, or ask for the node's files. Trying again does not help."""


class ImageRefused(ImageError):
    """The address that the machine names for its image will not give it, here or anywhere, now or later."""


class ImageUnavailable(ImageError):
    """The source is away. It may come back, and other nodes may reach it."""

    code = HealthCode.IMAGE_SOURCE_AWAY


class ImageUnreadableHere(ImageUnavailable):
    """This node's QEMU is too old for the image: other nodes may read it, and this one reads others."""


class CacheFailed(ImageError):
    """This node cannot keep images, or not look into them."""

    code = HealthCode.IMAGE_CACHE_FAILED


class CacheFull(CacheFailed):
    """There is no room for the image, and nothing unused that could go."""

    code = HealthCode.DISK_FULL


class CacheDiskFailed(CacheFailed):
    """The disk under the cache does not read or write."""

    code = HealthCode.DISK_FAILED


def cache_failure(folder: object, error: OSError) -> CacheFailed:
    """Return the error for what the kernel said of the cache's files."""
    sentence = f"the image cache {folder} cannot be used: {error.strerror or error}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return CacheFull(sentence)
    return CacheDiskFailed(sentence) if error.errno == errno.EIO else CacheFailed(sentence)
