"""Images on the node: one verified copy by digest, and a copy-on-write overlay for each vm.

The digest is the only authority over the bytes: a file gets its digest's name after every byte was hashed, and what
another account put there is copied, and hashed again. What the bytes mean depends on the format that a machine
declares: a qcow2 that reads another file is harmless as `raw`. So an image is looked at, under limits, as each format
it is wanted as.
"""

from launcher.images.cache import HeldImage, ImageCache
from launcher.images.errors import (
    BadImage,
    CacheFailed,
    ImageError,
    ImageRefused,
    ImageUnavailable,
    ImageUnreadableHere,
)
from launcher.images.folder import CacheFolder
from launcher.images.inspect import Limits, Ran, RunAsQemu
from launcher.images.source import Address, Image, Renew
from launcher.images.sources import Mirrors, mirror_folder

__all__ = [
    "Address",
    "BadImage",
    "CacheFailed",
    "CacheFolder",
    "HeldImage",
    "Image",
    "ImageCache",
    "ImageError",
    "ImageRefused",
    "ImageUnavailable",
    "ImageUnreadableHere",
    "Limits",
    "Mirrors",
    "Ran",
    "Renew",
    "RunAsQemu",
    "mirror_folder",
]
