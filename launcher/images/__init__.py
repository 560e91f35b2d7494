"""Images on the node: one verified copy by digest, and a copy-on-write overlay for each vm.

The digest is the only authority over the bytes: a file is renamed to its digest's name after every byte was hashed, and
what carries that name is never written again. What the bytes mean depends on the format that a machine declares: a
qcow2 that reads another file is harmless as `raw`. So `qemu-img` looks at the image, under limits, for every vm and as
that machine's format.
"""

from launcher.images.cache import ImageCache
from launcher.images.download import Source
from launcher.images.errors import BadImage, ImageUnavailable
from launcher.images.inspect import make_overlay

__all__ = ["BadImage", "ImageCache", "ImageUnavailable", "Source", "make_overlay"]
