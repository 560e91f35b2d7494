"""The tree of commands. A command's module is imported when that command is called, so that `--help` is quick."""

import importlib
import importlib.metadata
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup


class Entry(NamedTuple):
    """Where a command is, and its line in the overview."""

    module: str
    attribute: str
    line: str


COMMANDS: dict[str, Entry] = {
    "serve": Entry("serve", "serve", "Run a broker, with a store of its own unless one is named."),
    "callbacks": Entry("callbacks", "callbacks", "Tell users' servers of settled items, beside a broker."),
    "machine": Entry("machine", "app", "Machines: your virtual machines' XML and disks."),
    "stream": Entry("stream", "app", "Streams: channels of work, each with its spec."),
    "try": Entry("try_", "try_item", "Push one item and follow it to its end: console and outputs shown."),
    "push": Entry("push", "push", "Push items into a stream: each is one vm, one run, one result."),
    "watch": Entry("watch", "watch", "Follow a stream until all of its items are settled."),
    "events": Entry("events", "events", "Show what happened in a stream, or in all of yours, and follow it."),
    "status": Entry("status", "status", "Count a stream's items, or tell everything about one."),
    "results": Entry("results", "results", "Show the results, and download the outputs."),
    "why": Entry("item", "why", "Say in one sentence why an item is where it is."),
    "console": Entry("item", "console", "Show the console's tail of an item's last vm."),
    "logs": Entry("logs", "logs", "Show what was said of an item: verdict, program's output, console, node."),
    "cancel": Entry("item_acts", "cancel", "Stop items for good, whoever has them."),
    "hold": Entry("item_acts", "hold", "Set items aside until they are released."),
    "release": Entry("item_acts", "release", "Put held items back, their counters reset."),
    "pause": Entry("stream_acts", "pause", "Let a stream give nothing out for now."),
    "resume": Entry("stream_acts", "resume", "Let a paused stream give out again."),
    "purge": Entry("stream_acts", "purge", "Remove a stream and all its items."),
    "launchers": Entry(
        "launchers", "launchers", "Show which launchers are there, their room, and how their nodes are."
    ),
    "login": Entry("login", "login", "Log in to a broker with a one-time code."),
    "logout": Entry("login", "logout", "Log out: revoke the login that is kept on this machine."),
    "user": Entry("user", "app", "Users: let them in, their share of the grid, how much they may have."),
    "site": Entry("site", "app", "Sites: those that lend nodes, and the tokens of their launchers."),
    "token": Entry("token", "app", "Tokens: for your programs, and a list of what speaks for you."),
    "key": Entry("key", "app", "Keys of the broker on this machine: rotate them, drop old ones."),
    "secret": Entry("secret", "app", "Secrets: what your programs need in a vm and nobody else may see."),
    "callback": Entry("callback", "app", "Callbacks: how your server is told of settled items."),
    "file": Entry("file", "app", "Files: the broker's file sharing service."),
    "whoami": Entry("whoami", "whoami", "Show where you are logged in, as whom, and until when."),
    "check-config": Entry("check", "check_config", "Show the settings of `serve`, or every fault in them."),
}


def load(name: str) -> Any:
    """Import one command; its type is of Typer's own making."""
    entry = COMMANDS[name]
    target = getattr(importlib.import_module(f"broker.cli.{entry.module}"), entry.attribute)
    if not isinstance(target, typer.Typer):
        function, target = target, typer.Typer(add_completion=False)
        target.command(name)(function)
    return typer.main.get_command(target)


class _Group(TyperGroup):
    """Lists commands from the table, and imports the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 # as the base class has it
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 # as the base class has it
        if cmd_name in self.commands or cmd_name not in COMMANDS:
            return self.commands.get(cmd_name)
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name].line)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name in COMMANDS:
            self.commands[name] = load(name)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="broker",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit statuses: 0 done, 1 something failed or is held, 2 wrong usage or settings, 3 no broker answered, "
    "4 the broker refused.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"broker {importlib.metadata.version('vmbroker')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run your own virtual machines on a grid: push items, watch them, collect results."""
