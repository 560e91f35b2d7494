"""`launcher bundle`."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from launcher.bundle.failure import CannotBundle
from launcher.bundle.making import make_bundle
from launcher.guest_disk.contents import client_version

_FAILED = 1
_MIB = 1 << 20


def bundle(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The archive to make, a .tar.gz.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Make one archive of this launcher that runs on nodes with neither Python nor vmbroker.

    QEMU and libvirt are the node's own. Unpack it there and run vmbroker-VERSION/bin/launcher.
    """
    # So that what is half made is removed, as at Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        written = make_bundle(output, force=force)
    except CannotBundle as error:
        typer.echo(f"launcher: {error}", err=True)
        raise typer.Exit(_FAILED) from error
    typer.echo(
        f"{output}: {written.size_bytes / _MIB:.0f} MiB; unpacked {written.files:,} files, "
        f"{written.unpacked_bytes / _MIB:.0f} MiB; an unpacked copy runs as launcher {client_version()}"
    )
