"""What this desktop's libvirt knows, asked by `virsh`; one table translates its complaints.

Questions go over a read-only connection, which most desktops allow without a password.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from broker.desktop.definition import Volume
from broker.desktop.failure import DesktopFailure
from broker.desktop.programs import Ended, run

_ANSWER_S = 60.0
_SNAPSHOT_S = 300.0
_COMMIT_S = 6 * 3600.0
_AGENT_S = 5
USUAL_URIS = ("qemu:///system", "qemu:///session")
"""Where virt-manager keeps machines, by its own default, and where GNOME Boxes does."""

_NOT_THERE = ("failed to get domain", "Domain not found")
_NOT_ALLOWED = ("authentication", "access denied", "Permission denied")

State = Literal["off", "running", "saved"]


@dataclass(frozen=True, slots=True)
class Virsh:
    """One libvirt, by its URI."""

    uri: str

    async def definition(self, domain: str) -> str:
        """Return the XML that the domain is started from, or the only one of a transient domain."""
        return (await self._ask("dumpxml", "--inactive", f"--domain={domain}")).out.decode()

    async def whole_definition(self, domain: str) -> str:
        """Return the XML that the domain is started from, with its passwords: what may be given to `define`."""
        command = ("dumpxml", "--inactive", "--security-info", f"--domain={domain}")
        return (await self._do(*command, timeout_s=_ANSWER_S)).out.decode()

    async def running_definition(self, domain: str) -> str:
        """Return the XML of the domain as it runs now."""
        return (await self._ask("dumpxml", f"--domain={domain}")).out.decode()

    async def state(self, domain: str) -> State:
        """Tell whether the disks are whole: `saved` is off with its memory, and unwritten data, in another file."""
        told = (await self._ask("domstate", "--reason", f"--domain={domain}")).out.decode().strip()
        state, _, reason = told.partition(" (")
        if state not in {"shut off", "crashed"}:
            return "running"
        # A restarted libvirt has forgotten the reason, and knows of a managed save alone.
        is_saved = reason == "saved)" or await self._says(domain, "Managed", "save:", "yes")
        return "saved" if is_saved else "off"

    async def is_persistent(self, domain: str) -> bool:
        """Tell whether the domain's definition is kept when it ends."""
        return await self._says(domain, "Persistent:", "yes")

    async def _says(self, domain: str, *words: str) -> bool:
        info = (await self._ask("dominfo", f"--domain={domain}")).out.decode().splitlines()
        return any(tuple(line.split()) == words for line in info)

    async def volume_path(self, volume: Volume) -> Path:
        ended = await self._ask("vol-path", f"--pool={volume.pool}", f"--vol={volume.name}")
        return Path(ended.out.decode().strip())

    async def has_agent(self, domain: str) -> bool:
        """Tell whether a guest agent answers, which can bring the file systems to rest."""
        ping = '{"execute":"guest-ping"}'
        arguments = ("qemu-agent-command", f"--domain={domain}", f"--timeout={_AGENT_S}", f"--cmd={ping}")
        return (await self._run(*arguments, timeout_s=_ANSWER_S)).status == 0

    async def snapshot(
        self, domain: str, name: str, overlays: Iterable[tuple[str, Path]], left_alone: Iterable[str], *, quiesce: bool
    ) -> None:
        """Put every disk of `overlays` on a new overlay, all at one moment or none.

        Raises:
            DesktopFailure: libvirt refused; nothing has changed.
        """
        specs = [f"--diskspec={target},snapshot=external,file={_escaped(path)}" for target, path in overlays]
        specs += [f"--diskspec={target},snapshot=no" for target in left_alone]
        flags = ("--disk-only", "--atomic", "--no-metadata", *(("--quiesce",) if quiesce else ()))
        arguments = ("snapshot-create-as", f"--domain={domain}", f"--name={name}", *flags, *specs)
        await self._do(*arguments, timeout_s=_SNAPSHOT_S)

    async def commit(self, domain: str, target: str) -> None:
        """Write a disk's overlay into the layer below, put the running domain back on that, remove the overlay.

        Raises:
            DesktopFailure: libvirt refused; the domain still runs on its overlay.
        """
        flags = ("--active", "--shallow", "--pivot", "--wait", "--delete")
        await self._do("blockcommit", f"--domain={domain}", f"--path={target}", *flags, timeout_s=_COMMIT_S)

    async def define(self, file: Path) -> None:
        """Set a domain's definition from a file."""
        await self._do("define", f"--file={file}", timeout_s=_ANSWER_S)

    async def _ask(self, *command: str) -> Ended:
        return self._checked(await self._run("-r", *command, timeout_s=_ANSWER_S))

    async def _do(self, *command: str, timeout_s: float) -> Ended:
        return self._checked(await self._run(*command, timeout_s=timeout_s))

    async def _run(self, *command: str, timeout_s: float) -> Ended:
        return await run("virsh", "-q", "-c", self.uri, *command, timeout_s=timeout_s)

    def _checked(self, ended: Ended) -> Ended:
        if ended.status == 0:
            return ended
        if any(said in ended.err for said in _NOT_THERE):
            raise NoSuchDomain(f"{self.uri} knows no such machine")
        if any(said in ended.err for said in _NOT_ALLOWED):
            raise DesktopFailure(
                f"you may not ask {self.uri}: join its group with `sudo usermod -aG libvirt $USER` and log in anew, or "
                f"name another with --connect ({_lines(ended)})"
            )
        raise DesktopFailure(f"virsh -c {self.uri} failed: {_lines(ended)}")


class NoSuchDomain(DesktopFailure):
    """This libvirt does not know the domain."""


async def find_domain(domain: str, uri: str | None) -> tuple[Virsh, str]:
    """Find a domain; return the libvirt that has it, and its definition.

    Without a URI: $LIBVIRT_DEFAULT_URI, else those of `USUAL_URIS` in turn.

    Raises:
        DesktopFailure: nobody has it; the text names each that was asked.
    """
    named = uri or os.environ.get("LIBVIRT_DEFAULT_URI")
    asked = (named,) if named else USUAL_URIS
    reasons = []
    for candidate in asked:
        virsh = Virsh(candidate)
        try:
            return virsh, await virsh.definition(domain)
        except DesktopFailure as failure:
            if named and not isinstance(failure, NoSuchDomain):
                raise
            reasons.append(str(failure))
    commands = ", ".join(f"`virsh -c {candidate} list --all`" for candidate in asked)
    raise DesktopFailure(f"there is no machine {domain!r}: {'; '.join(reasons)} (see {commands})")


def _escaped(path: Path) -> str:
    """Write a path as virsh reads it in a list: a comma is doubled. Source: virsh(1), "snapshot-create-as"."""
    return str(path).replace(",", ",,")


def _lines(ended: Ended) -> str:
    return "; ".join(line.removeprefix("error: ").strip() for line in ended.err.splitlines() if line.strip())
