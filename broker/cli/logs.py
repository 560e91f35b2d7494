"""`broker logs`: everything that was said of one item, or one part of it, or all of it in one archive."""

from collections.abc import Awaitable
from typing import Annotated

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.bundle import write_bundle
from broker.cli.exits import BadUsage, Exit
from broker.cli.item import Item, Raw, write_raw_or_visible
from broker.cli.said import print_console, print_head, print_node, print_output, said_of
from broker.wire.names import ItemRef


def logs(
    item: Item,
    output: Annotated[bool, typer.Option("--output", help="Only what the program wrote to stdout and stderr.")] = False,
    console: Annotated[bool, typer.Option("--console", help="Only the console's tail of the last vm.")] = False,
    xml: Annotated[bool, typer.Option("--xml", help="Only the XML with which the last vm was booted.")] = False,
    raw: Raw = False,
    bundle: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="Write it all to a new tar.gz, for a site's operator; - is stdout."),
    ] = None,
) -> None:
    """Show what was said of an item: why, verdict, program's output, console, node; control characters made visible.

    A bundle holds the XML, all facts and the item's events, too. Tickets, tokens, private keys, headers and settings
    that carry a secret, signed addresses and the values of parameters are left out of all of it; read it before you
    send it, for what else your program printed only you can judge.
    """
    parts = [name for name, is_asked in (("output", output), ("console", console), ("xml", xml)) if is_asked]
    act(lambda acting: _logs(acting, item, parts, raw, bundle))


async def _logs(acting: Acting, name: str, parts: list[str], raw: bool, bundle: str | None) -> int:
    if len(parts) + (bundle is not None) > 1:
        raise BadUsage("ask for one of --output, --console, --xml and --bundle")
    if raw and not parts:
        raise BadUsage("--raw is for --output, --console or --xml")
    ref = acting.item(name)
    if parts:
        write_raw_or_visible(await _part(acting, ref, parts[0]), raw)
        return Exit.DONE
    said = await said_of(acting, ref)
    if bundle is not None:
        await write_bundle(acting, ref, said, bundle)
        if bundle != "-":
            showing.stderr().print(f"{bundle} holds what was said of {ref}; read it before you send it", soft_wrap=True)
        return Exit.DONE
    shown = showing.stdout()
    print_head(shown, said.item)
    print_output(shown, said)
    print_console(shown, said)
    if said.item.vm is not None:
        print_node(shown, said.item.vm)
    return Exit.DONE


def _part(acting: Acting, ref: ItemRef, part: str) -> Awaitable[bytes]:
    match part:
        case "output":
            return acting.researcher.log(ref)
        case "console":
            return acting.researcher.console(ref)
        case _:
            return acting.researcher.domain_xml(ref)
