"""`broker stream add | list | show`."""

from typing import Annotated, Any

import msgspec
import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.amounts import parse_duration_ms
from broker.cli.exits import BadUsage
from broker.wire.states import ItemState
from broker.wire.streams import StreamSpec

app = typer.Typer(no_args_is_help=True, help="Streams: channels of work, each with its spec.")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the stream: JOB or USER/JOB.")],
    machine: Annotated[str, typer.Option(help="Machine that runs the items.")],
    run: Annotated[str, typer.Option(help='What runs in the vm, e.g. "/opt/app/run {input} {output}".')],
    attempts: Annotated[int | None, typer.Option(help="How often an item may fail before it is held.")] = None,
    boots: Annotated[int | None, typer.Option(help="How many vms an item may take before it is held.")] = None,
    run_limit: Annotated[str | None, typer.Option(metavar="DURATION", help="Longest run, e.g. 2h.")] = None,
    boot_limit: Annotated[str | None, typer.Option(metavar="DURATION", help="Longest boot, e.g. 15m.")] = None,
    vcpus: Annotated[int | None, typer.Option(help="vcpus of a vm; default: the machine's.")] = None,
    memory_mib: Annotated[int | None, typer.Option(help="Memory of a vm; default: the machine's.")] = None,
    disk_mib: Annotated[int | None, typer.Option(help="Disk space a vm may write.")] = None,
    accelerator: Annotated[str | None, typer.Option(help="kvm or tcg; default: either.")] = None,
    hold_exit_code: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Exit code that holds an item at once; repeat for several.")
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
    as_user: Annotated[str | None, typer.Option("--as", metavar="USER", help="Account in the guest.")] = None,
) -> None:
    """Add a stream, or change its spec: a change is a new revision, for items pushed from then on."""
    given: dict[str, Any] = {
        "machine": machine,
        "run": run,
        "as_user": as_user,
        "network": network,
        "needs": {"vcpus": vcpus, "memory_mib": memory_mib, "disk_mib": disk_mib, "accelerator": accelerator},
        "limits": {"run_ms": run_limit, "boot_ms": boot_limit, "output_mib": output_mib},
        "retry": {"attempts": attempts, "boots": boots, "hold_exit_codes": hold_exit_code},
        "output": {"files": output_files, "to": output_to},
    }
    act(lambda acting: _add(acting, name, given))


@app.command(name="list")
def list_streams() -> None:
    """List your streams with the counts of their items."""
    act(_list)


@app.command()
def show(name: Annotated[str, typer.Argument(help="JOB or USER/JOB.")]) -> None:
    """Show a stream's spec, as JSON."""
    act(lambda acting: _show(acting, name))


async def _add(acting: Acting, name: str, given: dict[str, Any]) -> None:

    view = await acting.researcher.put_stream(acting.stream(name), _spec(given))
    showing.stdout().print(f"stream {view.stream} is there, revision {view.revision}, on machine {view.spec.machine}")


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


async def _show(acting: Acting, name: str) -> None:

    view = await acting.researcher.stream(acting.stream(name))
    text = msgspec.json.format(msgspec.json.encode(msgspec.to_builtins(view)), indent=2).decode()
    showing.stdout().print(showing.visible(text))


def _spec(given: dict[str, Any]) -> StreamSpec:
    """Build the spec; what was not given keeps its default."""
    limits = given["limits"]
    for name, option in (("run_ms", "--run-limit"), ("boot_ms", "--boot-limit")):
        if limits[name] is not None:
            limits[name] = parse_duration_ms(limits[name], option)
    try:
        return msgspec.convert(_without_none(given), StreamSpec)
    except msgspec.ValidationError as error:
        raise BadUsage(f"the stream's spec is not valid: {error}") from error


def _without_none(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, dict) else value
        for name, value in given.items()
        if value is not None
    }
