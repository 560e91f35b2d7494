"""Images on the node: one verified copy by digest, and a copy-on-write overlay for each vm.

The digest is the only authority: a file is renamed to its digest's name after every byte was hashed and `qemu-img` has
seen, under limits, that it names no other file. What carries that name is never written again.
"""

from launcher.images.cache import ImageCache
from launcher.images.download import Source
from launcher.images.errors import BadImage, ImageUnavailable
from launcher.images.inspect import make_overlay

__all__ = ["BadImage", "ImageCache", "ImageUnavailable", "Source", "make_overlay"]
