"""What a node advertises an image as, so that launchers go first where their image is.

An advertisement is read by everybody who can ask the pool, and an image's digest is not everybody's: whoever knows it
can ask a mirror for the bytes, or know the image among others. So the name is made of the digest by a keyed hash that
both sides know: who has the digest computes the name, and nobody computes the digest from the name, or compares names
with a table of plain SHA-256 digests.

It is no secret which digests a node has from those who know them; so only images that anybody may have are named.

Source: RFC 2104; HTCondor's manual, "ClassAd attribute names": letters, digits and underscores.
"""

import hashlib
import hmac
from typing import Final

_PREFIX: Final = "VMBROKER_IMAGE_"
_KEY: Final = b"vmbroker image name 1"
_CHARACTERS: Final = 20
"""80 bits: nobody finds two digests with one name by chance."""


def image_attribute(digest: str) -> str:
    """Return the ClassAd attribute that is true where the image `sha256:…` is; the same in each release."""
    return f"{_PREFIX}{hmac.new(_KEY, digest.encode(), hashlib.sha256).hexdigest()[:_CHARACTERS]}"
