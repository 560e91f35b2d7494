"""Everything that was said of one item: by the broker, its vm's console, its program, its launcher."""

import asyncio
from collections.abc import Awaitable
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from broker.cli import showing
from broker.cli.acting import Acting
from broker.client.errors import ApiError
from broker.domain.why import sentence_of
from broker.wire.items import ItemView, VmView
from broker.wire.names import ItemRef
from broker.wire.problems import ProblemCode
from broker.wire.states import SETTLED


class Said(NamedTuple):
    """What is kept of an item. The bytes are raw, None where there are none (yet)."""

    item: ItemView
    output: bytes | None
    console: bytes | None
    domain_xml: bytes | None


async def said_of(acting: Acting, ref: ItemRef) -> Said:
    """Ask for everything that is kept of an item."""
    item = await acting.researcher.item(ref)
    output, console, domain_xml = await asyncio.gather(
        _kept(acting.researcher.log(ref)),
        _kept(acting.researcher.console(ref)),
        _kept(acting.researcher.domain_xml(ref)),
    )
    return Said(item, output, console, domain_xml)


async def _kept(asking: Awaitable[bytes]) -> bytes | None:
    try:
        return await asking
    except ApiError as error:
        if error.code is ProblemCode.NOT_FOUND:
            return None
        raise


def verdict_of(item: ItemView) -> str:
    """Return one sentence: the verdict on the item's last vm."""
    vm = item.vm
    if vm is None:
        return "it had no vm" if item.state in SETTLED else "it had no vm yet"
    if vm.verdict is None:
        return f"its vm on {showing.plain(vm.node)} has no verdict yet"
    return f"{vm.verdict}: {showing.plain(vm.sentence)}"


def print_head(console: Console, item: ItemView) -> None:
    """Show why the item is where it is, and its last vm's verdict."""
    table = showing.pairs()
    table.add_row("why", showing.plain(sentence_of(item)))
    table.add_row("verdict", verdict_of(item))
    console.print(table)


def print_output(console: Console, said: Said, last_lines: int | None = None) -> None:
    """Show what the program wrote, or the end of it; nothing when it was not kept."""
    if said.output is not None:
        _print_text(console, "program's output", said.output, last_lines)


def print_console(console: Console, said: Said, last_lines: int | None = None) -> None:
    """Show the vm's console, or the end of it; nothing when it was not kept."""
    if said.console is not None:
        _print_text(console, "console of its vm", said.console, last_lines)


def print_node(console: Console, vm: VmView) -> None:
    """Show where the vm was, and the facts told of it."""
    console.print("\nnode", style="bold")
    console.print(_node_table(vm))


def text_of(content: bytes) -> str:
    """Return raw bytes as text that cannot act on a terminal."""
    return showing.visible(content.decode("utf-8", "backslashreplace"))


def _print_text(console: Console, heading: str, content: bytes, last_lines: int | None) -> None:
    lines = text_of(content).rstrip("\n").split("\n")
    left_out = max(0, len(lines) - last_lines) if last_lines else 0
    note = f" ({left_out} lines before are left out)" if left_out else ""
    console.print(f"\n{heading}{note}", style="bold")
    console.file.write("\n".join(lines[left_out:] if any(lines) else ["(nothing)"]) + "\n")


def _node_table(vm: VmView) -> Table:
    table = showing.pairs()
    accelerator = f", {vm.accelerator}" if vm.accelerator else ""
    rows = {
        "vm": vm.dispatch,
        "node": vm.node,
        "launcher": vm.launcher,
        "size": f"{vm.vcpus} vcpus, {vm.memory_mib} MiB{accelerator}",
        **{phase.value: at for phase, at in vm.phases.items()},
        **vm.facts,
    }
    for name, value in rows.items():
        table.add_row(showing.plain(name), showing.plain(value))
    return table
