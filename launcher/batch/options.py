"""The flags that `submit` and `provision` have in common."""

from pathlib import Path
from typing import Annotated, Final

import typer

from broker.client.login import NoLogin, find_launcher_login
from broker.wire.jobs import BatchKind
from launcher.authority import NoAuthority, authority_of
from launcher.batch.errors import Refused
from launcher.batch.submission import Submissions, default_root
from launcher.batch.submitting import Credential
from launcher.batch.times import parse_span
from launcher.carried import carried
from launcher.settings import SettingsError, read_settings

ToHTCondor = Annotated[bool, typer.Option("--htcondor", help="To the HTCondor access point of this machine.")]
ToSlurm = Annotated[bool, typer.Option("--slurm", help="To Slurm.")]
ToPbs = Annotated[bool, typer.Option("--pbs", help="To PBS: OpenPBS, Torque, or what speaks as they do.")]
BrokerUrl = Annotated[str | None, typer.Option("--broker", help="Address of the broker; default: the login's.")]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", readable=False, help="File with the launchers' token; default: the login."),
]
CaFile = Annotated[
    Path | None, typer.Option("--ca-file", readable=False, help="PEM file to check the broker's certificate with.")
]
Bundle = Annotated[
    Path | None,
    typer.Option(
        readable=False, help="Archive by `launcher bundle`: it travels with the jobs, or is unpacked for them."
    ),
]
OnNodes = Annotated[
    str | None, typer.Option("--launcher", help="Where the launcher is on the nodes, instead of a bundle.")
]
Vcpus = Annotated[int, typer.Option(help="Processors of a job.")]
MemoryMib = Annotated[int, typer.Option(help="Memory of a job, the launcher's and QEMU's own included.")]
DiskMib = Annotated[int, typer.Option(help="Disk space of a job: images, and what vms write.")]
Runtime = Annotated[str, typer.Option(help="Longest that a job runs, as 90m, 24h, 7d; it drains before.")]
Idle = Annotated[str, typer.Option(help="A launcher without work for so long ends its job.")]
DrainS = Annotated[int, typer.Option(min=0, max=3_600, help="Seconds that a vm gets to stop before it is destroyed.")]
Users = Annotated[list[str] | None, typer.Option("--user", help="Whose items to run; repeatable; default: all.")]
Vms = Annotated[int | None, typer.Option(min=1, help="Most vms of a job at a time.")]
Cache = Annotated[
    str | None, typer.Option(help="Folder of images on the nodes; default: the site's, else the job's own.")
]
Scratch = Annotated[
    str | None, typer.Option(help="Folder on the nodes for what dies with a job; default: the job's own.")
]
Requirements = Annotated[str | None, typer.Option(help="HTCondor: what a slot must meet besides.")]
Constraint = Annotated[
    str | None, typer.Option(help="Slurm: the feature of nodes for vms, by default virt, '' for none; PBS: a property.")
]
Queue = Annotated[str | None, typer.Option(help="PBS: the queue, by default virt; Slurm: the partition.")]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="NAME=VALUE", help="What else the batch system is told, in its own words; repeatable."
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(readable=False, help="Where submissions are kept; for Slurm and PBS, shared with the nodes."),
]
_VIRT: Final = "virt"
_LEAST_IDLE_S: Final = 10
_MOST_IDLE_S: Final = 7 * 86_400


def kind_of(htcondor: bool, slurm: bool, pbs: bool) -> BatchKind | None:
    """Return the one batch system that is named, None where none is.

    Raises:
        Refused: several are.
    """
    named = {BatchKind.HTCONDOR: htcondor, BatchKind.SLURM: slurm, BatchKind.PBS: pbs}
    kinds = [kind for kind, is_named in named.items() if is_named]
    if len(kinds) > 1:
        raise Refused("name one batch system: --htcondor, --slurm or --pbs")
    return kinds[0] if kinds else None


def credential_of(broker: str | None, token_file: Path | None, ca_file: Path | None) -> Credential:
    """Find the broker and the launchers' token, as `launcher run` does.

    Raises:
        Refused: there is none, or it cannot be used.
    """
    try:
        settings = read_settings(broker=broker, token_file=token_file, ca_file=ca_file)
        login = find_launcher_login(settings.broker, settings.token_file)
        return Credential(login, authority_of(settings.ca_file, login))
    except (SettingsError, NoLogin, NoAuthority) as error:
        raise Refused(str(error)) from error


def submissions_of(folder: Path | None) -> Submissions:
    """Return where submissions are kept.

    Raises:
        Refused: nobody tells where.
    """
    return Submissions(folder.absolute() if folder is not None else default_root())


def span_of(text: str, option: str) -> int:
    """Return a span's seconds.

    Raises:
        Refused: it is none.
    """
    try:
        return parse_span(text)
    except ValueError as error:
        raise Refused(f"{option}: {error}") from error


def idle_of(text: str) -> int:
    """Return the seconds after which a launcher without work ends.

    Raises:
        Refused: no launcher takes them.
    """
    idle_s = span_of(text, "--idle")
    if not _LEAST_IDLE_S <= idle_s <= _MOST_IDLE_S:
        raise Refused(f"--idle is {idle_s} s: write {_LEAST_IDLE_S}s to {_MOST_IDLE_S // 86_400}d")
    return idle_s


def pairs_of(options: list[str] | None) -> tuple[tuple[str, str], ...]:
    """Return names and values of repeated `NAME=VALUE`; a bare name has no value.

    Raises:
        Refused: one has no name.
    """
    pairs = [option.partition("=") for option in options or []]
    for name, sign, _ in pairs:
        if not name.strip():
            raise Refused(f"--option {sign!r} has no name: write NAME=VALUE, in the batch system's own words")
    return tuple((name.strip(), value.strip()) for name, _, value in pairs)


def launcher_of(kind: BatchKind, bundle: Path | None, launcher: str | None) -> str | None:
    """Return where the launcher is on the nodes: that of the bundle which this command came in, where they see it."""
    carrier = None if bundle or launcher or kind is BatchKind.HTCONDOR else carried()
    return launcher if carrier is None else str(carrier.folder / "bin" / "launcher")


def queue_of(kind: BatchKind, queue: str | None) -> str | None:
    """Return the queue: of PBS virt, where none is named."""
    return _VIRT if kind is BatchKind.PBS and queue is None else queue or None


def constraint_of(kind: BatchKind, constraint: str | None) -> str | None:
    """Return the feature of nodes: of Slurm virt, where none is named."""
    return _VIRT if kind is BatchKind.SLURM and constraint is None else constraint or None
