"""`broker machine add | list | show | rm | share | unshare | uploads`."""

from pathlib import Path
from typing import Annotated

import typer

from broker.cli import machine_views, showing
from broker.cli.acting import Acting, act
from broker.cli.exits import BadUsage

app = typer.Typer(no_args_is_help=True, help="Machines: your virtual machines' XML and disks.")

_Name = Annotated[str, typer.Argument(metavar="NAME", help="NAME or USER/NAME.")]
_User = Annotated[str, typer.Argument(metavar="USER", help="Who may run it, as the broker knows them.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the machine: NAME or USER/NAME.")],
    xml: Annotated[
        str | None, typer.Argument(metavar="[FILE.xml]", help="What `virsh dumpxml` printed; - reads stdin.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(metavar="VM", help="The machine on this desktop, as virt-manager lists it.")
    ] = None,
    connect: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Where virsh finds it; default: qemu:///system, then qemu:///session."),
    ] = None,
    disk: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TARGET=WHERE",
            help="A disk's image: vda=disk.qcow2, or vda=https://HOST/PATH#sha256=HEX; repeat for several.",
        ),
    ] = None,
    nvram: Annotated[Path | None, typer.Option(metavar="PATH", help="UEFI variables other than the XML names.")] = None,
    fresh_nvram: Annotated[bool, typer.Option("--fresh-nvram", help="Start with fresh UEFI variables.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Copy a running machine's disks, by a snapshot.")] = False,
    as_is: Annotated[bool, typer.Option("--as-is", help="Upload the files unchanged, not a compact copy.")] = False,
    with_backing: Annotated[
        bool, typer.Option("--with-backing", help="Follow backing files below an image that virsh did not name.")
    ] = False,
    install_guest: Annotated[
        bool, typer.Option("--install-guest", help="Install the guest's stub into the copy of the first disk.")
    ] = False,
    work_folder: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where copies are made; default: $XDG_CACHE_HOME/vmbroker.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the verdict and the sizes, and stop.")] = False,
) -> None:
    """Hand a machine over: its XML, its disks, and its UEFI variables.

    What a vm will not get of the XML is told first; an XML that is refused costs no copy and no upload. Overlays are
    flattened and images made compact in a copy; your own files are never changed. An image that the broker holds
    already is not uploaded again, and an upload that was cut goes on where it was.
    """
    from broker.cli.interrupting import until_interrupted
    from broker.cli.machine_add import Order
    from broker.cli.machine_add import add as hand_over

    order = Order(
        name=name,
        xml_file=xml,
        domain=domain,
        connect=connect,
        disks=disk or [],
        nvram=nvram,
        fresh_nvram=fresh_nvram,
        live=live,
        as_is=as_is,
        with_backing=with_backing,
        install_guest=install_guest,
        work_folder=work_folder,
        dry_run=dry_run,
    )
    act(lambda acting: until_interrupted(hand_over(acting, order)))


@app.command(name="list")
def list_machines() -> None:
    """List your machines."""
    act(_list)


@app.command()
def show(
    name: _Name,
    xml: Annotated[
        bool, typer.Option("--xml", help="Print the domain XML as it was handed over, and nothing else.")
    ] = False,
) -> None:
    """Show one machine: its size, its disks, who may run it, and what its XML lost."""
    act(lambda acting: _show(acting, name, xml))


@app.command()
def rm(
    name: _Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a machine. Its disks' images go when nothing else names them."""
    act(lambda acting: _rm(acting, name, yes))


@app.command()
def share(name: _Name, user: _User) -> None:
    """Let somebody else run your machine in streams of their own."""
    act(lambda acting: _share(acting, name, user))


@app.command()
def unshare(name: _Name, user: _User) -> None:
    """Take it back: from now on, none of their streams starts your machine."""
    act(lambda acting: _unshare(acting, name, user))


@app.command()
def uploads(
    drop: Annotated[bool, typer.Option("--drop", help="Remove them, with what arrived of them.")] = False,
) -> None:
    """Show your uploads of images that are not finished; the same machine added again goes on with its own."""
    from broker.cli.machine_uploads import show_uploads

    act(lambda acting: show_uploads(acting, drop=drop))


async def _list(acting: Acting) -> None:
    machines = await acting.researcher.machines(acting.user)
    if not machines:
        showing.stdout().print("no machines yet: add one with `broker machine add NAME --domain VM`")
        return
    table = showing.table("machine", "revision", "vcpus", "memory", "firmware", "disks", right=("revision", "vcpus"))
    for view in machines:
        disks = ", ".join(f"{target} {showing.size(disk.size_bytes)}" for target, disk in view.disks.items())
        table.add_row(view.machine, str(view.revision), str(view.vcpus), f"{view.memory_mib} MiB", view.firmware, disks)
    showing.stdout().print(table)


async def _show(acting: Acting, name: str, only_xml: bool) -> None:
    ref = acting.machine(name)
    view = await acting.researcher.machine(ref)
    if only_xml:
        # It may be read by another program: nothing is made visible that was not.
        typer.echo(showing.xml_of(view.domain_xml))
        return
    table = showing.pairs()
    table.add_row("machine", view.machine)
    table.add_row("revision", str(view.revision))
    table.add_row("size", machine_views.size(view))
    for target, disk in view.disks.items():
        table.add_row(f"disk {target}", machine_views.disk(disk))
    if view.nvram is not None:
        table.add_row("UEFI variables", machine_views.disk(view.nvram))
    if view.machine.startswith(f"{acting.user}/"):
        readers = await acting.researcher.machine_readers(ref)
        table.add_row("shared with", ", ".join(readers) or "nobody")
    for sentence in view.dropped:
        table.add_row("dropped", showing.plain(sentence))
    showing.stdout().print(table)


async def _rm(acting: Acting, name: str, yes: bool) -> None:
    ref = acting.machine(name)
    if not yes and not typer.confirm(f"Remove the machine {ref}?", err=True):
        raise BadUsage(f"{ref} stays: it was not confirmed; --yes removes it without asking")
    await acting.researcher.delete_machine(ref)
    showing.stdout().print(f"machine {ref} is removed")


async def _share(acting: Acting, name: str, user: str) -> None:
    ref = acting.machine(name)
    await acting.researcher.share_machine(ref, user)
    showing.stdout().print(f"{user} may run {ref}: `broker stream add JOB --machine {ref} …`")


async def _unshare(acting: Acting, name: str, user: str) -> None:
    ref = acting.machine(name)
    await acting.researcher.unshare_machine(ref, user)
    showing.stdout().print(f"{user} may no longer run {ref}")
