"""What `launcher ps` and `launcher drain` do."""

import json
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import msgspec
import typer

from launcher.local.launchers import CannotSignal, Found, Process, find_launchers, process_of
from launcher.local.shown import lines, plain
from launcher.output import Output
from launcher.settings import SettingsError, read_settings, stand_in

_FAILED, _USAGE = 1, 2


def show(scratch: list[Path] | None, output: Output) -> None:
    """Print the launchers in these folders, or in the setting's."""
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


def send_away(names: list[str], *, every: bool, wait_s: int | None, scratch: list[Path] | None) -> None:
    """Have these launchers drain, and wait for their end so long; ends with the status 1 when one was not told."""
    chosen = _chosen([each for each in find_launchers(_folders(scratch)) if each.is_alive], names, every)
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
        if wait_s is not None and not _all_gone(told, wait_s):
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
