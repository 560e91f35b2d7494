"""`broker stream add | list | show | revisions`."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.exits import BadUsage, Exit, tell
from broker.wire.states import ItemState
from broker.wire.streams import StreamView

app = typer.Typer(no_args_is_help=True, help="Streams: channels of work, each with its spec.")


_TABLE_FLAGS = {"params": "--param", "inputs": "--input", "s3": "--s3", "plugins": "--plugin"}
_TABLES = _TABLE_FLAGS.keys()


class OutputFormat(StrEnum):
    TABLE = "table"
    TOML = "toml"
    JSON = "json"


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the stream: JOB or USER/JOB.")],
    file: Annotated[
        str | None,
        typer.Option("--file", "-f", metavar="FILE.toml", help="The spec; - reads stdin. Flags come before it."),
    ] = None,
    machine: Annotated[str | None, typer.Option(help="Machine that runs the items.")] = None,
    run: Annotated[str | None, typer.Option(help='What runs in the vm, e.g. "/opt/app/run {input} {output}".')] = None,
    script: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Program that travels with the items; {script} in --run.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter of every item; repeat for several.")
    ] = None,
    attempts: Annotated[int | None, typer.Option(help="How often an item may fail before it is held.")] = None,
    boots: Annotated[int | None, typer.Option(help="How many vms an item may take before it is held.")] = None,
    backoff: Annotated[
        tuple[str, str] | None, typer.Option(metavar="FIRST LONGEST", help="Pauses after a failure, e.g. 30s 10m.")
    ] = None,
    hold_exit_code: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Exit code that holds an item at once; repeat for several.")
    ] = None,
    run_limit: Annotated[str | None, typer.Option(metavar="DURATION", help="Longest run, e.g. 2h.")] = None,
    boot_limit: Annotated[str | None, typer.Option(metavar="DURATION", help="Longest boot, e.g. 15m.")] = None,
    keep: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long settled items are kept, e.g. 30d.")
    ] = None,
    vcpus: Annotated[
        str | None, typer.Option(metavar="N|slot", help="vcpus of a vm, or all that are free; default: the machine's.")
    ] = None,
    memory_mib: Annotated[int | None, typer.Option(help="Memory of a vm; default: the machine's.")] = None,
    disk_mib: Annotated[int | None, typer.Option(help="Disk space a vm may write.")] = None,
    accelerator: Annotated[str | None, typer.Option(help="kvm or tcg; default: any.")] = None,
    exchange: Annotated[
        str | None, typer.Option(help="How files get in and out: network, shared, disk or rootdisk.")
    ] = None,
    exchange_folder: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder of the guest's root disk, with exchange rootdisk.")
    ] = None,
    output_files: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Outputs to keep; repeat for several. Default: all.")
    ] = None,
    output_to: Annotated[
        str | None, typer.Option(metavar="TEMPLATE", help="Where outputs go; default: the broker's file service.")
    ] = None,
    output_mib: Annotated[int | None, typer.Option(help="Most that an item may put out.")] = None,
    network: Annotated[
        list[str] | None, typer.Option(metavar="HOST:PORT", help="Host that the program needs; repeat for several.")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:KIND]", help="Secret of yours that each vm is given; repeat for several."),
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="Label of launchers that may have them; repeat for several."),
    ] = None,
    input_: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=URL", help="Further input of every item; repeat for several."),
    ] = None,
    s3: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Where s3: is: secret=NAME, endpoint=URL, region=REGION, each by one."),
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="SCHEME=PATH", help="Transfer plugin in the vm for another scheme; repeat for several."),
    ] = None,
    access: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST NAME: VALUE", help="Header for one host; its value may be @SECRET of yours."),
    ] = None,
    callback: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Who is told of settled items: url=URL, secret=NAME, event=KIND, each by one."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show where files would go; keep nothing.")
    ] = False,
    as_user: Annotated[str | None, typer.Option("--as", metavar="USER", help="Account in the guest.")] = None,
) -> None:
    """Add a stream, or change its spec: a change is a new revision, for items pushed from then on.

    The spec is a TOML file, flags, or both; what neither says has its default. The same spec again changes nothing.
    """
    given = {
        "machine": machine,
        "run": run,
        "script": script,
        "as": as_user,
        "keep": keep,
        "network": network,
        "secrets": secret,
        "trust": trust,
        "needs.vcpus": int(vcpus) if vcpus is not None and vcpus.isdecimal() else vcpus,
        "needs.memory_mib": memory_mib,
        "needs.disk_mib": disk_mib,
        "needs.accelerator": accelerator,
        "needs.exchange": exchange,
        "needs.exchange_folder": exchange_folder,
        "limits.boot": boot_limit,
        "limits.run": run_limit,
        "limits.output_mib": output_mib,
        "retry.attempts": attempts,
        "retry.boots": boots,
        "retry.backoff": None if backoff is None else list(backoff),
        "retry.hold_exit_codes": hold_exit_code,
        "output.files": output_files,
        "output.to": output_to,
        "params": param,
        "inputs": input_,
        "s3": s3,
        "plugins": plugin,
        "access": access,
        "callback": callback,
    }
    said = {path: value for path, value in given.items() if value is not None}
    act(lambda acting: _add(acting, name, file, said, dry_run=dry_run))


@app.command(name="list")
def list_streams() -> None:
    """List your streams with the counts of their items."""
    act(_list)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="JOB or USER/JOB.")],
    revision: Annotated[int | None, typer.Option(min=1, help="An earlier revision; default: the latest.")] = None,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How to show it.")] = OutputFormat.TABLE,
) -> None:
    """Show a stream's spec. What `-o toml` prints, `broker stream add -f` takes."""
    act(lambda acting: _show(acting, name, revision, output))


@app.command()
def revisions(name: Annotated[str, typer.Argument(help="JOB or USER/JOB.")]) -> None:
    """List the latest revisions of a stream's spec. Items keep the one that they were pushed under."""
    act(lambda acting: _revisions(acting, name))


async def _add(acting: Acting, name: str, file: str | None, given: dict[str, Any], *, dry_run: bool) -> int:
    from broker.cli.rehearsing import show_rehearsal
    from broker.cli.spec_file import BadSpec, merge, read_script, read_spec

    stream = acting.stream(name)
    if isinstance(given.get("script"), Path):
        given["script"] = read_script(given["script"])
    for path in _TABLES & given.keys():
        given[path] = dict(_pair(text, _TABLE_FLAGS[path]) for text in given[path])
    if "access" in given:
        given["access"] = _access(given["access"])
    if "callback" in given:
        given["callback"] = _callback(given["callback"])
    try:
        spec = read_spec(merge(_document(file, given) if file is not None else {}, given), stream)
    except BadSpec as error:
        tell(str(error), *(map(str, error.faults) if len(error.faults) > 1 else ()))
        return Exit.USAGE
    if dry_run:
        show_rehearsal(await acting.researcher.rehearse_stream(stream, spec))
        showing.stdout().print(f"the spec of {stream} is good; nothing was kept")
        return Exit.DONE
    view = await acting.researcher.put_stream(stream, spec)
    showing.stdout().print(f"stream {view.stream} is there, revision {view.revision}, on machine {view.spec.machine}")
    return Exit.DONE


async def _list(acting: Acting) -> None:

    streams = await acting.researcher.streams(acting.user)
    if not streams:
        showing.stdout().print("no streams yet: add one with `broker stream add JOB --machine NAME --run …`")
        return
    states = [state for state in ItemState if any(view.counts.get(state) for view in streams)]
    table = showing.table("stream", "machine", *states, right=tuple(states))
    for view in streams:
        table.add_row(view.stream, view.spec.machine, *(str(view.counts.get(state, 0)) for state in states))
    showing.stdout().print(table)


async def _show(acting: Acting, name: str, revision: int | None, output: OutputFormat) -> None:
    from broker.cli.spec_file import write_spec

    view = await acting.researcher.stream(acting.stream(name), revision)
    console = showing.stdout()
    match output:
        case OutputFormat.TABLE:
            _show_table(view)
        case OutputFormat.TOML:
            # Written past Rich, which would cut a line that is longer than the terminal.
            console.file.write(write_spec(view.spec, f"{view.stream}, revision {view.revision}"))
        case OutputFormat.JSON:
            console.file.write(showing.json_of(msgspec.to_builtins(view), indent=2) + "\n")


def _show_table(view: StreamView) -> None:
    from broker.cli.spec_file import written

    table = showing.pairs()
    table.add_row("stream", view.stream)
    table.add_row("revision", str(view.revision))
    for path, value in written(view.spec):
        cell = _access_cell(value) if path == "access" else _cell(value)
        table.add_row(path, showing.visible(value).rstrip() if path == "script" else showing.plain(cell))
    counts = (f"{view.counts[state]} {state}" for state in ItemState if view.counts.get(state))
    table.add_row("items", ", ".join(counts) or "none")
    if view.callback_off is not None:
        off = f"off since {view.callback_off_at}: {view.callback_off.sentence}; add the stream again to have it told"
        table.add_row("callback", showing.plain(off))
    if view.forgotten:
        table.add_row("", f"{view.forgotten} settled ones are no longer kept")
    showing.stdout().print(table)


async def _revisions(acting: Acting, name: str) -> None:

    table = showing.table("revision", "put", "machine", "runs", right=("revision",))
    for each in await acting.researcher.revisions(acting.stream(name)):
        runs = showing.plain(each.run) or "{script}"
        table.add_row(str(each.revision), each.put_at or "", each.machine, runs)
    showing.stdout().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, text in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _access_cell(value: dict[str, dict[str, dict[str, str]]]) -> str:
    """Write what goes along to each host as `--access` takes it."""
    return ", ".join(
        f"{origin} {name}: {mark}{text}"
        for origin, each in value.items()
        for kind, mark in (("headers", ""), ("secret_headers", "@"))
        for name, text in each.get(kind, {}).items()
    )


def _document(file: str, given: dict[str, Any]) -> dict[str, Any]:
    """Read the TOML, and the script that it names: from its own folder, or from here when it came by stdin."""
    from broker.cli.spec_file import MAX_FILE_BYTES, parse_document, read_script

    if file == "-":
        document = parse_document(sys.stdin.buffer.read(MAX_FILE_BYTES + 1), "stdin")
        folder = Path()
    else:
        with Path(file).open("rb") as opened:
            document = parse_document(opened.read(MAX_FILE_BYTES + 1), file)
        folder = Path(file).parent
    script = document.get("script")
    if "script" not in given and isinstance(script, str) and script and not script.startswith("#!"):
        document["script"] = read_script(folder / script)
    return document


def _pair(text: str, flag: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise BadUsage(f"{flag} {text}: write NAME=VALUE")
    return name, value


def _access(texts: list[str]) -> dict[str, Any]:
    found: dict[str, dict[str, dict[str, str]]] = {}
    for text in texts:
        host, _, header = text.partition(" ")
        name, colon, value = header.partition(":")
        if not host or not colon or not name.strip():
            raise BadUsage(f"--access {text}: write 'HOST NAME: VALUE', or 'HOST NAME: @SECRET' for a secret of yours")
        value = value.strip()
        kind = "secret_headers" if value.startswith("@") else "headers"
        found.setdefault(host, {}).setdefault(kind, {})[name.strip()] = value.removeprefix("@")
    return found


def _callback(texts: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, value = _pair(text, "--callback")
        match name:
            case "url":
                found["url"] = value
            case "secret" | "event":
                found.setdefault(f"{name}s", []).append(value)
            case _:
                raise BadUsage(f"--callback {text}: write url=URL, secret=NAME or event=KIND")
    return found
