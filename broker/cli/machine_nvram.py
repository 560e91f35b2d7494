"""A machine's UEFI variables on this desktop: found, and copied before anything is shown or uploaded."""

from dataclasses import dataclass
from pathlib import Path

from broker.cli import showing
from broker.cli.exits import BadUsage
from broker.cli.machine_source import Source
from broker.desktop.nvram import check_name, copy_nvram
from launcher.domain_xml import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """A raw copy of the variables, and the file that they are from."""

    path: Path
    copy: Path


async def find_variables(source: Source, facts: Facts, given: Path | None, copy: Path) -> Variables | None:
    """Copy the variables that were given, else those that the XML names; None: a vm starts with fresh ones.

    From an XML in a file, which may be somebody else's, only a file with the name of such variables is taken.

    Raises:
        BadUsage: some were given, and the machine has none.
        DesktopFailure: they cannot be read, or are none.
    """
    if facts.firmware != "uefi":
        if given is not None:
            raise BadUsage("the machine boots by BIOS, which has no UEFI variables: leave --nvram out")
        return None
    path = given.expanduser() if given else source.definition.nvram
    if path is None:
        showing.stdout().print("the XML names no UEFI variables: its vms start with fresh ones", style="dim")
        return None
    if given is None and source.virsh is None:
        check_name(path)
    await copy_nvram(path, None if given else source.definition.nvram_format, copy)
    return Variables(path=path, copy=copy)
