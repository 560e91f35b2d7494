"""How a command ends: its exit statuses, and the one sentence on stderr."""

from enum import IntEnum

import typer

from broker.cli.showing import plain, visible


class Exit(IntEnum):
    """Exit statuses of the `broker` command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    INTERRUPTED = 130


class Failed(Exception):
    """The command did not do what was asked; its text is a sentence for a person."""


class BadUsage(Exception):
    """The command line cannot be followed; its text is a sentence that says what to write."""


def fail(sentence: str, status: Exit) -> Exit:
    """Tell what went wrong; return the status to leave with."""
    tell(sentence)
    return status


def tell_done(sentence: str) -> None:
    """Write to stderr what was done: stdout is for what can be piped on."""
    typer.echo(plain(sentence), err=True)


def tell(sentence: str, *more: str) -> None:
    """Write to stderr what a person has to know."""
    typer.echo(f"broker: {visible(sentence)}", err=True)
    for line in more:
        typer.echo(f"  {visible(line)}", err=True)
