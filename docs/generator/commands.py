"""The pages of the `broker` and `launcher` commands, from their Typer definitions."""

from collections.abc import Iterator
from typing import Any

import typer.core
import typer.main

from broker.cli.commands import COMMANDS, load
from broker.cli.exits import Exit
from docs.generator.layout import code, page, table
from launcher.commands import app as launcher_app

_BROKER_EXITS = {
    Exit.DONE: "done; for `watch`: every item is settled and none is held",
    Exit.FAILED: "something was not done, or an item is held",
    Exit.USAGE: "the command line, the settings or the login cannot be used",
    Exit.UNREACHABLE: "no broker answered, or its store is away",
    Exit.REFUSED: "the broker refused; the sentence says why; for `cancel`: one of the items at least",
    Exit.INTERRUPTED: "interrupted by Ctrl-C",
}
_LAUNCHER_EXITS = {
    0: "done; for `run`: stopped as asked, by SIGTERM or Ctrl-C",
    1: "the node or the broker does not allow it; for `check-machine`: the XML is refused",
    2: "the command line, the settings, the login or a file cannot be used",
}


def broker_command() -> str:
    """Return the page of the `broker` command."""
    exits = ((str(int(status)), meaning) for status, meaning in _BROKER_EXITS.items())
    return page(
        "The `broker` command",
        "Where the broker is and who you are: `VMBROKER_URL`, `BEARER_TOKEN`, `BEARER_TOKEN_FILE`, then "
        "`$XDG_CONFIG_HOME/vmbroker/login.json`, which `broker login` writes, then `bt_u$UID` in `$XDG_RUNTIME_DIR` "
        "and in `/tmp`. A missing USER in a name is your own.",
        "## Exit statuses",
        table(("status", "meaning"), exits),
        *(section for name in COMMANDS for section in _sections(f"broker {name}", load(name))),
    )


def launcher_command() -> str:
    """Return the page of the `launcher` command."""
    exits = ((str(status), meaning) for status, meaning in _LAUNCHER_EXITS.items())
    return page(
        "The `launcher` command",
        "Where the broker is, and the launcher's token: `--broker` and `--token-file`, `VMBROKER_URL` and "
        "`VMBROKER_LAUNCHER_TOKEN_FILE`, then `$XDG_CONFIG_HOME/vmbroker/launcher.json`, which `broker site add` "
        "makes, and `broker serve` for its own machine. What a flag does not say, [the settings](launcher-settings.md) "
        "say. [How to run a launcher](../how-to/run-a-launcher.md).",
        "## Exit statuses",
        table(("status", "meaning"), exits),
        *_sections("launcher", typer.main.get_command(launcher_app)),
    )


def _sections(name: str, command: Any) -> Iterator[str]:
    """Yield the sections of a command; its types are of Typer's own making."""
    if isinstance(command, typer.core.TyperGroup):
        for part, inner in command.commands.items():
            yield from _sections(f"{name} {part}", inner)
        return
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    yield f"## `{' '.join([name, *map(_shown, arguments)])}`"
    yield "\n\n".join(" ".join(paragraph.split()) for paragraph in command.help.split("\n\n"))
    rows = [(code(_shown(each)), each.help or "") for each in arguments]
    rows += [(code(f"{'/'.join(each.opts)}{_value(each)}"), each.help or "") for each in options]
    if rows:
        yield table(("argument or option", "meaning"), rows)


def _shown(argument: Any) -> str:
    name = str(argument.metavar or argument.name.upper())
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _value(option: Any) -> str:
    if option.is_flag:
        return ""
    return f" {option.metavar or option.name.upper()}"
