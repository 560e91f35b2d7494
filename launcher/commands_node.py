"""The commands of a node: `run`, `doctor`, `advertise`, `ps`, `drain`.

Each imports what it needs when it is called: where launchers are only submitted, neither libvirt nor lxml is installed.
"""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from launcher.output import Output

_FAILED, _USAGE = 1, 2
Folders = Annotated[
    list[Path] | None,
    typer.Option(
        "--scratch",
        readable=False,
        help="Where launchers keep their scratch folders; repeatable; default: the setting's.",
    ),
]


def run(
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
    idle_s: Annotated[int | None, typer.Option(help="End after so many seconds without any vm; default: stay.")] = None,
    items: Annotated[
        int | None, typer.Option(help="Most items to take in all; then let the vms finish, and end.")
    ] = None,
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
    """Offer this node's room to the broker and run the vms it gives, until SIGTERM or Ctrl-C.

    It ends by itself before the slot does, and where --idle-s or --items say so.
    """
    from broker.client.errors import Untrusted
    from broker.client.login import NoLogin, find_launcher_login
    from broker.client.session import CallError
    from launcher.app import run as run_launcher
    from launcher.authority import NoAuthority, authority_of
    from launcher.guest_disk import CannotBuildGuestDisk
    from launcher.hypervisor.errors import HypervisorError
    from launcher.images import ImageError
    from launcher.logs import set_up_logs
    from launcher.node.scratch import ScratchError
    from launcher.node.slot import NoRoom
    from launcher.settings import SettingsError, read_settings

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
            idle_s=idle_s,
            items=items,
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
        ca_pem = authority_of(settings.ca_file, login)
    except (NoLogin, NoAuthority) as error:
        _fail(str(error), _USAGE)
    try:
        asyncio.run(run_launcher(settings, login, ca_pem))
    except Untrusted as error:
        _fail(f"{error}; name the PEM file of the authority that signed it by --ca-file, or ask its operator", _FAILED)
    except (CallError, CannotBuildGuestDisk, HypervisorError, ImageError, NoRoom, ScratchError) as error:
        _fail(str(error), _FAILED)
    except OSError as error:
        _fail(f"the node does not let the launcher work: {error}", _FAILED)


def doctor(
    site: Annotated[
        bool, typer.Option("--site", help="For a site's administrator: what needs a broker's token is left out.")
    ] = False,
    output: Annotated[Output, typer.Option("--output", "-o", help="text, or json: a list of findings.")] = Output.TEXT,
    broker: Annotated[str | None, typer.Option(help="Address of the broker; default: the login's.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(readable=False, help="File with the launcher's token; default: the login.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(readable=False, help="PEM file to check the broker's certificate with.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(readable=False, help="Folder of images.")] = None,
    scratch: Annotated[
        Path | None, typer.Option(readable=False, help="Folder for what dies with the launcher; a short path.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Account QEMU runs under when the launcher is root.")] = None,
) -> None:
    """Look at everything that a launcher needs of this node, and say how to mend what it lacks.

    Every point is really tried: a libvirtd is started and a vm in it, files go through each exchange. It takes half a
    minute the first time after the node's boot. Ask as the account that is to run the launcher, with its settings. The
    exit status is 0 when a launcher runs here, though it may be better off, and 1 when it does not.
    """
    from launcher.doctor.command import examine

    given = {"broker": broker, "token_file": token_file, "ca_file": ca_file}
    if not examine(site=site, output=output, **given, cache=cache, scratch=scratch, account=account):
        sys.exit(_FAILED)


def advertise(
    cache: Annotated[Path | None, typer.Option(readable=False, help="Folder of images.")] = None,
    scratch: Annotated[
        Path | None, typer.Option(readable=False, help="Folder for what dies with a launcher; a short path.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Account QEMU runs under when the launcher is root.")] = None,
) -> None:
    """Print what a batch system is to know of this node, as ClassAd attributes: whether vms can run here, and how.

    For HTCondor's STARTD_CRON and for glideins. A vm is really started the first time after the node's boot; the answer
    is remembered, comes within a minute in any case, and has the exit status 0 when it is "no", too. Ask as the account
    that is to run launchers.
    """
    from launcher.advertise.command import answer_in_time

    answer_in_time(cache=cache, scratch=scratch, account=account)


def ps(
    scratch: Folders = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="text, or json: a list of launchers.")] = Output.TEXT,
) -> None:
    """Show this account's launchers on this node with their health, their slot and their vms; as root, everybody's.

    Launchers in a batch job have a scratch folder of the job's own: name it.
    """
    from launcher.local.commands import show

    show(scratch, output)


def drain(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Names as `launcher ps` shows.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Each launcher that `launcher ps` shows.")] = False,
    wait: Annotated[
        int | None, typer.Option(min=0, max=86_400, help="Seconds to wait at most until they are gone.")
    ] = None,
    scratch: Folders = None,
) -> None:
    """Have launchers take nothing more, give their vms the chance to stop, and end.

    It is what SIGTERM does. A second one, after the first, ends their vms at once.
    """
    from launcher.local.commands import send_away

    send_away(names or [], every=every, wait_s=wait, scratch=scratch)


def _fail(sentence: str, status: int) -> NoReturn:
    for line in sentence.splitlines():
        typer.echo(f"launcher: {line}", err=True)
    sys.exit(status)
