"""`broker secret add | list | rm`. A value comes by a file or by stdin: never in an argument, where `ps` shows it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.exits import BadUsage
from broker.domain.limits import default
from broker.wire.names import OwnedName, parse_owned
from broker.wire.secrets import PutSecret, SecretKind

app = typer.Typer(no_args_is_help=True, help="Secrets: what your programs need in a vm and nobody else may see.")

_OF_ONE_LINE = {SecretKind.BEARER_TOKEN, SecretKind.WEBHOOK_KEY}

Name = Annotated[str, typer.Argument(metavar="NAME", help="NAME or USER/NAME.")]


@app.command()
def add(
    name: Name,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="What holds it; default: stdin, or a hidden question.")
    ] = None,
    kind: Annotated[
        SecretKind, typer.Option(help="How programs are told of it: see `broker stream add --secret`.")
    ] = SecretKind.FILE,
) -> None:
    """Add a secret, or replace it: vms that run get the new value at their next call."""

    async def work(acting: Acting) -> None:
        value = _value(file, kind)
        view = await acting.researcher.put_secret(_ref(acting, name), PutSecret(value=value, kind=kind))
        size = showing.size(view.size_bytes)
        showing.stdout().print(f"{view.secret}: version {view.version}, {view.kind}, {size}; kept sealed")

    act(work)


@app.command(name="list")
def list_secrets(
    user: Annotated[str | None, typer.Option(metavar="USER", help="Whose; default: your own.")] = None,
) -> None:
    """List your secrets: everything but their values, which nobody is shown."""

    async def work(acting: Acting) -> None:
        secrets = await acting.researcher.secrets(user or acting.user)
        if not secrets:
            showing.stdout().print("no secrets yet: add one with `broker secret add NAME --file FILE`")
            return
        table = showing.table("secret", "kind", "size", "version", "added", "changed", right=("size", "version"))
        for each in secrets:
            size = showing.size(each.size_bytes)
            table.add_row(each.secret, each.kind, size, str(each.version), each.created_at, each.updated_at)
        showing.stdout().print(table)

    act(work)


@app.command()
def rm(name: Name) -> None:
    """Remove a secret: no vm is given it any more. A stream that needs it is paused when a vm claims an item."""

    async def work(acting: Acting) -> None:
        ref = _ref(acting, name)
        await acting.researcher.delete_secret(ref)
        showing.stdout().print(f"{ref} is removed; vms that have it keep it to their end")

    act(work)


def _ref(acting: Acting, name: str) -> OwnedName:
    return parse_owned(name, acting.user, "secret")


def _value(file: Path | None, kind: SecretKind) -> bytes:
    """Read the value; of a token or a key without the line's end."""
    if file is not None:
        with file.open("rb") as opened:
            value = _bounded(opened.read(default("secret_bytes") + 1), str(file))
    elif sys.stdin.isatty():
        value = _asked()
    else:
        value = _bounded(sys.stdin.buffer.read(default("secret_bytes") + 1), "stdin")
    return value.strip() if kind in _OF_ONE_LINE else value


def _bounded(value: bytes, source: str) -> bytes:
    most = default("secret_bytes")
    if len(value) > most:
        raise BadUsage(f"{source} has more than {most} bytes: no secret is that long")
    return value


def _asked() -> bytes:
    """Ask at the terminal without showing what is typed.

    Raises:
        BadUsage: the terminal would show it.
    """
    import getpass
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass("the secret (not shown): ").encode()
        except (getpass.GetPassWarning, EOFError) as error:
            raise BadUsage("this terminal would show what is typed: give --file FILE, or pipe the secret in") from error
