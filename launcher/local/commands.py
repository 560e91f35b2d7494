"""The commands `launcher ps` and `launcher drain`."""

import json
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer

from launcher.local.launchers import CannotSignal, Found, Process, find_launchers, process_of
from launcher.local.shown import lines, plain
from launcher.settings import SettingsError, read_settings, stand_in

_FAILED, _USAGE = 1, 2
Folders = Annotated[
    list[Path] | None,
    typer.Option(
        "--scratch",
        readable=False,
        help="Where launchers keep their scratch folders; repeatable; default: the setting's.",
    ),
]


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


def ps(
    scratch: Folders = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="text, or json: a list of launchers.")] = Output.TEXT,
) -> None:
    """Show this account's launchers on this node with their health, their slot and their vms; as root, everybody's.

    Launchers in a batch job have a scratch folder of the job's own: name it.
    """
    found = find_launchers(_folders(scratch))
    if output is Output.JSON:
        # In ASCII: a folder's name may be of any bytes.
        typer.echo(json.dumps(msgspec.to_builtins([_told(each) for each in found]), indent=2))
        return
    now = datetime.now(UTC)
    for each in found:
        for line in lines(each, now):
            typer.echo(line)
    if not found:
        typer.echo(f"no launcher in {', '.join(map(str, _folders(scratch)))}")


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
    chosen = _chosen([each for each in find_launchers(_folders(scratch)) if each.is_alive], names or [], every)
    has_failed = False
    with ExitStack() as stack:
        told: list[tuple[Found, Process]] = []
        for found in chosen:
            try:
                process = stack.enter_context(process_of(found))
                process.terminate()
            except CannotSignal as error:
                typer.echo(f"launcher: {plain(found.name)} is not told: {error}", err=True)
                has_failed = True
            else:
                typer.echo(f"{plain(found.name)} (process {process.pid}) drains")
                told.append((found, process))
        if wait is not None and not _all_gone(told, wait):
            has_failed = True
    if has_failed:
        sys.exit(_FAILED)


def _chosen(alive: list[Found], names: list[str], every: bool) -> list[Found]:
    if every == bool(names):
        _fail("name the launchers to drain, or say --all; `launcher ps` shows them")
    if every and not alive:
        _fail("no launcher runs here; --scratch names the folders to look in")
    unknown = set(names) - {found.name for found in alive}
    if unknown:
        _fail(f"no launcher {', '.join(sorted(unknown))} runs here; `launcher ps` shows those that do")
    return [found for found in alive if every or found.name in names]


def _all_gone(told: Iterable[tuple[Found, Process]], wait_s: int) -> bool:
    """Wait for all of them together; name those that are still there."""
    ends_s = time.monotonic() + wait_s
    late = [plain(found.name) for found, process in told if not process.wait_gone(max(0.0, ends_s - time.monotonic()))]
    if late:
        typer.echo(f"launcher: still there after {wait_s} s: {', '.join(late)}", err=True)
    return not late


def _folders(given: list[Path] | None) -> list[Path]:
    if given:
        return given
    try:
        return [read_settings().scratch]
    except SettingsError as error:
        # Launchers that run must be seen, and can be sent away, whatever became of the settings since.
        folder = stand_in(error).scratch
        for fault in error.faults:
            typer.echo(f"launcher: {fault}", err=True)
        typer.echo(f"launcher: looks in {folder}, not knowing better; --scratch names other folders", err=True)
        return [folder]


def _told(found: Found) -> dict[str, object]:
    return {"folder": str(found.folder), "is_alive": found.is_alive, "state": found.state}


def _fail(sentence: str) -> NoReturn:
    typer.echo(f"launcher: {sentence}", err=True)
    sys.exit(_USAGE)
