"""What `launcher bundle` does."""

import signal
import sys
from pathlib import Path

import typer

from launcher.bundle.failure import CannotBundle
from launcher.bundle.making import make_bundle
from launcher.guest_disk.contents import client_version

_FAILED = 1
_MIB = 1 << 20


def make(output: Path, *, has_condor: bool, force: bool) -> None:
    """Make the bundle and say what it came to; ends with the status 1 when there is none."""
    # So that what is half made is removed, as at Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        written = make_bundle(output, has_condor=has_condor, force=force)
    except CannotBundle as error:
        typer.echo(f"launcher: {error}", err=True)
        raise typer.Exit(_FAILED) from error
    typer.echo(
        f"{output}: {written.size_bytes / _MIB:.0f} MiB; unpacked {written.files:,} files, "
        f"{written.unpacked_bytes / _MIB:.0f} MiB; an unpacked copy runs as launcher {client_version()}"
    )
