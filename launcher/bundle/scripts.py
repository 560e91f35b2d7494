"""How a bundle is started: `bin/launcher`, and the first lines of Python that it runs."""

from pathlib import PurePosixPath
from string import Template
from typing import Final

from launcher.bundle.layout import AUTHORITIES, INTERPRETER, LIBRARIES, SITE, START

# A process that this starts inherits nothing of the bundle: there are no LD_ and no PYTHON variables, and -I ignores
# those of whoever started it. The loader takes : ; and $ in its list of folders for its own signs: ld.so(8).
_LAUNCHER: Final = Template("""\
#!/bin/sh
# Starts the launcher of the bundle that this file is in, with the bundle's own interpreter, loader and libraries.
# What started it may have left it no PATH; only the shell's own search is mended, not what the launcher inherits.
here=$$(PATH=$${PATH:+$$PATH:}/usr/bin:/bin readlink -f -- "$$0") && root=$${here%/bin/*} || exit
case $$root in
*[:\\;\\$$]*)
	echo "launcher: move this bundle to a folder whose path has no ':', ';' and '$$': $$root" >&2
	exit 2
	;;
esac
exec "$$root/$loader" --library-path "$$root/$libraries" "$$root/$interpreter" -I -S -B "$$root/$start" "$$@"
""")

_START: Final = Template("""\
import os
import sys

bundle = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.append(f"{bundle}/$site")

from launcher.guest_disk.contents import USUAL_AUTHORITY_FILES

# Whom to trust is the node's to say, where it says anything; this OpenSSL would look where its own builder has it.
if not os.environ.get("SSL_CERT_FILE") and not os.environ.get("SSL_CERT_DIR"):
    files = filter(os.path.isfile, USUAL_AUTHORITY_FILES)
    os.environ["SSL_CERT_FILE"] = next(files, f"{bundle}/$authorities")

from launcher.cli import main

main()
""")


def launcher_script(loader: PurePosixPath) -> bytes:
    """Return `bin/launcher`, for a POSIX sh, given where in the bundle the loader is."""
    text = _LAUNCHER.substitute(loader=loader, libraries=LIBRARIES, interpreter=INTERPRETER, start=START)
    return text.encode()


def start_script() -> bytes:
    """Return what the interpreter runs."""
    return _START.substitute(site=SITE, authorities=AUTHORITIES).encode()
