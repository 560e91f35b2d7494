"""The commands that need no node: `check-machine`, `bundle`. Each imports what it needs when it is called."""

from pathlib import Path
from typing import Annotated, Literal

import typer

_REFUSED = 1


def check_machine(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Domain XML as `virsh dumpxml` prints it; - is stdin.")
    ],
    disk: Annotated[
        list[str] | None,
        typer.Option(help="Target that an image is given for, as vda; repeatable; default: every hard disk."),
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Show what a vm on this node would get, as a diff.")] = False,
    accelerator: Annotated[
        Literal["kvm", "tcg"], typer.Option(help="Whose vm the diff shows: of a node with KVM, or without.")
    ] = "kvm",
    nvram: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The machine's UEFI variables; the diff has the firmware that fits them."),
    ] = None,
) -> None:
    """Tell whether a machine's XML is accepted, what of it a vm will not get, and what is set in it.

    With several files: a line for each.
    """
    from launcher.check_machine import check

    if not check(files, disks=disk, is_diff_shown=diff, accelerator=accelerator, nvram=nvram):
        raise typer.Exit(_REFUSED)


def bundle(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The archive to make, a .tar.gz.")],
    condor: Annotated[
        bool,
        typer.Option("--condor", help="Carry HTCondor's bindings, too, for an access point that submits launchers."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Make one archive of this launcher that runs on nodes with neither Python nor vmbroker.

    QEMU and libvirt are the node's own. Unpack it there and run vmbroker-VERSION/bin/launcher.
    """
    from launcher.bundle.command import make

    make(output, has_condor=condor, force=force)
