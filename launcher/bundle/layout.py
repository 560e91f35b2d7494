"""What is where in a bundle, below its one folder `vmbroker-VERSION`.

The interpreter finds its library by itself, for that is beside its own folder: no PYTHONHOME is needed.
"""

from pathlib import PurePosixPath
from typing import Final

from launcher.carried import SITE_FOLDER

LAUNCHER: Final = PurePosixPath("bin/launcher")
INTERPRETER: Final = PurePosixPath("libexec/python3")
START: Final = PurePosixPath("libexec/launcher")
LIBRARIES: Final = PurePosixPath("lib")
SITE: Final = PurePosixPath(SITE_FOLDER)
GUEST_DISK: Final = PurePosixPath("share/guest-disk.img")
AUTHORITIES: Final = PurePosixPath("share/authorities.pem")
LICENCES: Final = PurePosixPath("licences")
NOTICE: Final = PurePosixPath("NOTICE")
VERSION: Final = PurePosixPath("VERSION")
MANIFEST: Final = PurePosixPath("MANIFEST")
