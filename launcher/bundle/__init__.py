"""The bundle: one archive with all that a launcher is made of, for nodes that have no Python and no vmbroker.

It holds the running interpreter with its own loader and libraries, the launcher's packages, libvirt's client library
and the finished guest disk. QEMU and libvirtd are the node's: a site installs and updates those. Nothing on the node
is changed by unpacking it, and it runs from any folder.
"""

from launcher.bundle.archive import Written
from launcher.bundle.failure import CannotBundle
from launcher.bundle.making import make_bundle

__all__ = ["CannotBundle", "Written", "make_bundle"]
