"""The launcher's commands: `run`, `check-config`, `check-machine`, `bundle`, `doctor`, `ps`, `drain`.

Exit statuses: 0 stopped as asked, 1 the node or the broker does not allow it, 2 wrong settings.
"""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from broker.client.login import NoLogin, find_launcher_login
from broker.client.session import CallError
from launcher.app import client_version, run
from launcher.authority import NoAuthority, read_authority
from launcher.bundle.command import bundle
from launcher.check_config import check_config
from launcher.check_machine import check_machine
from launcher.doctor.command import doctor
from launcher.guest_disk import CannotBuildGuestDisk
from launcher.hypervisor.errors import HypervisorError
from launcher.images import ImageError
from launcher.local.commands import drain, ps
from launcher.logs import set_up_logs
from launcher.node.scratch import ScratchError
from launcher.node.slot import NoRoom
from launcher.settings import SettingsError, read_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run researchers' virtual machines on this node, one for each item that a broker gives out.",
)
_FAILED, _USAGE = 1, 2


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"launcher {client_version()}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run researchers' virtual machines on this node, one for each item that a broker gives out."""


@app.command(name="run")
def run_command(
    broker: Annotated[str | None, typer.Option(help="Address of the broker; default: the login's.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(readable=False, help="File with the launcher's token; default: the login.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(readable=False, help="PEM file to check the broker's certificate with.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="This launcher's name; default: made of the host's.")] = None,
    vms: Annotated[int | None, typer.Option(help="Most vms at a time.")] = None,
    vcpus: Annotated[int | None, typer.Option(help="Virtual processors for vms; default: measured.")] = None,
    memory_mib: Annotated[int | None, typer.Option(help="Memory for vms, QEMU's own included.")] = None,
    disk_mib: Annotated[int | None, typer.Option(help="Space for what vms write.")] = None,
    accelerator: Annotated[str | None, typer.Option(help="auto, kvm or tcg; auto probes.")] = None,
    libvirt_uri: Annotated[str | None, typer.Option(help="A libvirt of the site's; default: a private one.")] = None,
    network: Annotated[str | None, typer.Option(help="proxy or open; open goes with --libvirt-uri alone.")] = None,
    end: Annotated[str | None, typer.Option(help="When the slot ends, RFC 3339; default: the batch system's.")] = None,
    drain_s: Annotated[int | None, typer.Option(help="Seconds that a vm gets to stop before it is destroyed.")] = None,
    user: Annotated[list[str] | None, typer.Option(help="Whose items to run; repeatable; default: all.")] = None,
    cache: Annotated[Path | None, typer.Option(readable=False, help="Folder of images.")] = None,
    cache_mib: Annotated[int | None, typer.Option(help="Most that the folder of images takes.")] = None,
    mirror: Annotated[
        list[str] | None, typer.Option(help="Address of a folder where images are looked for first; repeatable.")
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(readable=False, help="Folder for what dies with the launcher; a short path.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Account QEMU runs under when the launcher is root.")] = None,
    trusted_origin: Annotated[
        list[str] | None, typer.Option(help="HOST:PORT on this node or its network that vms may reach; repeatable.")
    ] = None,
) -> None:
    """Offer this node's room to the broker and run the vms it gives, until SIGTERM or Ctrl-C."""
    try:
        settings = read_settings(
            broker=broker,
            token_file=token_file,
            ca_file=ca_file,
            name=name,
            vms=vms,
            vcpus=vcpus,
            memory_mib=memory_mib,
            disk_mib=disk_mib,
            accelerator=accelerator,
            libvirt_uri=libvirt_uri,
            network=network,
            end=end,
            drain_s=drain_s,
            users=tuple(user) if user else None,
            cache=cache,
            cache_mib=cache_mib,
            mirrors=tuple(mirror) if mirror else None,
            scratch=scratch,
            account=account,
            trusted_origins=tuple(trusted_origin) if trusted_origin else None,
        )
    except SettingsError as error:
        _fail(str(error), _USAGE)
    set_up_logs()
    try:
        login = find_launcher_login(settings.broker, settings.token_file)
        ca_pem = read_authority(settings.ca_file)
    except (NoLogin, NoAuthority) as error:
        _fail(str(error), _USAGE)
    try:
        asyncio.run(run(settings, login, ca_pem))
    except (CallError, CannotBuildGuestDisk, HypervisorError, ImageError, NoRoom, ScratchError) as error:
        _fail(str(error), _FAILED)
    except OSError as error:
        _fail(f"the node does not let the launcher work: {error}", _FAILED)


app.command()(check_config)
app.command()(check_machine)
app.command()(bundle)
app.command()(doctor)
app.command()(ps)
app.command()(drain)


def _fail(sentence: str, status: int) -> NoReturn:
    for line in sentence.splitlines():
        typer.echo(f"launcher: {line}", err=True)
    sys.exit(status)
