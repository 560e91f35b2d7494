"""`broker key list | rotate | drop`: on the broker's own machine, in its data folder."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from broker.auth.key_files import BadKeys
from broker.auth.rotation import PUBLISHED_BEFORE, drop, list_keys, rotate
from broker.cli import showing
from broker.cli.exits import Exit, fail, tell_done
from broker.settings import BadSettings, load_settings

app = typer.Typer(no_args_is_help=True, help="Keys of the broker on this machine: rotate them, drop old ones.")

Data = Annotated[Path | None, typer.Option(help="The broker's data folder; default: the one of its settings.")]


@app.command(name="list")
def list_all(data: Data = None) -> None:
    """List the keys by their ids; no key is shown."""

    def work(folder: Path) -> None:
        table = showing.table("id", "kind", "use")
        now_s = int(time.time())
        for key in list_keys(folder, now_s=now_s):
            use = "makes and verifies" if key.is_current else "verifies"
            if key.signs_from_s > now_s:
                use = f"signs from {datetime.fromtimestamp(key.signs_from_s, UTC):%Y-%m-%dT%H:%M:%SZ} on"
            table.add_row(key.key_id, key.kind, use)
        showing.stdout().print(table)

    _run(work, data)


@app.command(name="rotate")
def rotate_keys(
    data: Data = None,
    now: Annotated[
        bool, typer.Option("--now", help="Sign with the new key at once; for when others know the old one.")
    ] = False,
) -> None:
    """Add a key of each kind; a running broker takes it within seconds, and the old ones still verify.

    The new one signs after an hour, when all who keep the published keys know it.
    """

    def work(folder: Path) -> None:
        rotate(folder, at_once=now, now_s=int(time.time()))
        when = "at once" if now else f"in {int(PUBLISHED_BEFORE.total_seconds()) // 60} minutes"
        tell_done(f"there is a new key of each kind; the one for signing signs {when}")

    _run(work, data)


@app.command(name="drop")
def drop_key(
    key: Annotated[str, typer.Argument(metavar="ID", help="As `broker key list` shows it.")], data: Data = None
) -> None:
    """Remove an old key: whatever it made is refused from then on, and secrets that it sealed are lost."""

    def work(folder: Path) -> None:
        drop(folder, key, now_s=int(time.time()))
        tell_done(f"{key} is gone; whatever it made is refused")

    _run(work, data)


def _run(work: Callable[[Path], None], data: Path | None) -> None:
    try:
        work((load_settings({"data": data}).data) / "keys")
    except BadSettings as error:
        raise typer.Exit(fail(str(error), Exit.USAGE)) from error
    except BadKeys as error:
        raise typer.Exit(fail(str(error), Exit.FAILED)) from error
    except OSError as error:
        raise typer.Exit(fail(f"{error.filename}: {error.strerror}", Exit.FAILED)) from error
