"""The launcher's few verbs for VMs.

What is authoritative is libvirt's answer to a question; its events only make the question be asked sooner. An event can
be lost with its connection, and a guest that dies meanwhile sends none, so every wait also polls, and looks at once
when the connection broke.

VMs are transient. At a site's libvirt they belong to this connection: when it closes, libvirt destroys them. At a
private one they do not, so that they live on when its libvirtd dies and is started again; they end with the launcher
all the same, for nothing in the private daemon's namespaces outlives it.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, TypeVar

import libvirt
import structlog
from lxml import etree

from launcher.hypervisor import domains
from launcher.hypervisor.capabilities import Capabilities, read_capabilities
from launcher.hypervisor.connection import Connection
from launcher.hypervisor.errors import Conflict, ConnectionLost, NoSuchVm, NotAsked, Unanswered, Unavailable
from launcher.hypervisor.lanes import Lane
from launcher.hypervisor.qemu_logs import QemuLogs
from launcher.hypervisor.restarts import Restart, Restarts, Silence
from launcher.hypervisor.vm import StopReason, Vm
from launcher.hypervisor.watches import Watches

T = TypeVar("T")

log = structlog.get_logger()

# The first VM after libvirtd's start waits for QEMU's capabilities; on a node busy with 20 starts one took 15 s.
START_LIMIT_S: Final = 120.0
POLL_S: Final = 5.0
SILENCE_LIMIT_S: Final = 30.0
LOOK_LIMIT_S: Final = 30.0
DESTROY_LIMIT_S: Final = 30.0
DESTROY_TRIES: Final = 3
BUTTON_LIMIT_S: Final = 10.0
# The event that a VM was destroyed, before another of its UUID is started.
REPLACED_LIMIT_S: Final = 10.0


class Hypervisor:
    """Starts, watches and destroys VMs at one libvirt; made inside a running loop, closed by `async with`.

    Args:
        uri: A private daemon's, or the one a site names. With a site's, nothing is isolated beyond what that site does.
        log_folder: A private daemon's; QEMU's logs there are kept small, and removed with their VMs. A site's libvirt
            looks after its own.
        poll_s: How often a running VM is looked at without an event.
        silence_limit_s: How long questions about VMs may stay unanswered before libvirtd is started again, or else
            their watchers told so.
        restart: Starts a libvirtd again that does not answer; None if that is nobody's business here.
        autodestroy: Whether libvirt destroys the VMs when the connection ends, and when libvirtd is told to end. A
            private daemon's need neither: they end with it.
    """

    def __init__(
        self,
        uri: str,
        *,
        log_folder: Path | None = None,
        poll_s: float = POLL_S,
        silence_limit_s: float = SILENCE_LIMIT_S,
        restart: Restart | None = None,
        autodestroy: bool = True,
    ) -> None:
        self._logs = None if log_folder is None else QemuLogs(log_folder)
        self._poll_s = poll_s
        self._silence_limit_s = silence_limit_s
        self._watches = Watches()
        self._silence = Silence()
        self._restarts = Restarts(restart, self._silence)
        # Not VALIDATE: the schema wants an order of elements that neither libvirt nor older exports keep.
        self._start_flags = libvirt.VIR_DOMAIN_START_AUTODESTROY if autodestroy else libvirt.VIR_DOMAIN_NONE
        self._connection = Connection(
            uri, on_lifecycle=self._on_lifecycle, on_watchdog=self._on_watchdog, on_lost=self._watches.wake
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start_vm(self, xml: str) -> Vm:
        """Start a transient VM; it may run even before this returns.

        When this is cancelled or times out, a VM that starts all the same is destroyed. When libvirtd goes away
        meanwhile, what is left of the VM is destroyed and the start repeated, once.

        Raises:
            Rejected: libvirt does not accept the XML.
            Conflict: A VM of this name or UUID runs.
            Unavailable: The node could not start it.
        """
        if self._logs is not None:
            self._logs.expect(xml)
        try:
            return await self._create(xml)
        except ConnectionLost as error:
            uuid = _uuid_of(xml)
            if uuid is None:
                raise
            log.warning("start_repeated", dispatch=uuid, reason=str(error))
            if await self._pull_plug(uuid):
                await self._watches.of(uuid).last_word(REPLACED_LIMIT_S)
            self._watches.forget(uuid)
            return await self._create(xml)

    async def press_power_button(self, uuid: str) -> None:
        """Ask the guest to power itself off, as by the button of its case; whether it does is the guest's to decide.

        Does nothing to a VM that is gone.

        Raises:
            Unavailable: libvirt could not be asked within ten seconds.
        """
        with contextlib.suppress(NoSuchVm, Conflict):
            press = functools.partial(domains.press_power_button, uuid=uuid)
            await self._connection.call(press, lane=Lane.CHANGE, limit_s=BUTTON_LIMIT_S)

    async def destroy(self, uuid: str) -> None:
        """Pull the VM's plug; returns when it is gone, at once if it was already. Takes one or two seconds.

        To be called for each VM that was to start, however it ended: what is left of it in the log folder goes with it.

        Raises:
            Unavailable: It may still run, and is the caller's to destroy again: it could not be several times over, nor
                after libvirtd, if that can be, was started again.
        """
        self._watches.of(uuid).is_to_go = True
        await self._pull_plug(uuid)
        if self._logs is not None:
            await asyncio.to_thread(self._logs.remove, uuid)

    async def _pull_plug(self, uuid: str) -> bool:
        """Destroy it, if need be by a libvirtd that is started again for it; returns whether there was one."""
        restarts = self._restarts.count
        try:
            return await self._try_to_pull(uuid)
        except Unavailable as error:
            if not await self._restarts.since(restarts, f"a vm could not be destroyed: {error}"):
                raise
        return await self._try_to_pull(uuid)

    async def _try_to_pull(self, uuid: str) -> bool:
        for tries_left in reversed(range(DESTROY_TRIES)):
            try:
                destroy = functools.partial(domains.destroy, uuid=uuid)
                await self._connection.call(destroy, lane=Lane.DESTROY, limit_s=DESTROY_LIMIT_S)
            except (NoSuchVm, Conflict):
                return False
            except Unavailable as error:
                if isinstance(error, Unanswered) or not tries_left:
                    raise
            else:
                return True
        raise AssertionError("the last try returns or raises")

    async def list_vms(self, metadata_namespace: str | None = None) -> list[Vm]:
        """List the running VMs, or those of them that carry a metadata element of this namespace."""
        return await self._ask(functools.partial(domains.list_active, metadata_namespace=metadata_namespace))

    async def describe(self, uuid: str) -> str:
        """Return the XML of a running VM.

        Raises:
            NoSuchVm: It does not run any more.
        """
        return await self._ask(functools.partial(domains.describe, uuid=uuid))

    async def wait_stopped(self, uuid: str) -> StopReason:
        """Wait until the VM has stopped or can only be destroyed.

        Raises:
            Unavailable: libvirt could not be asked for `silence_limit_s`, and cannot be started again.
        """
        watch = self._watches.of(uuid)
        while True:
            watch.changed.clear()
            if watch.reason is not None:
                return watch.reason
            restarts = self._restarts.count
            try:
                reason = await self._look(uuid)
            except NoSuchVm:
                return await watch.last_word()
            except Unavailable as error:
                if self._silence.lasts_s > self._silence_limit_s and not await self._restarts.since(
                    restarts, f"nothing was heard of vms for {self._silence.lasts_s:.0f} s: {error}"
                ):
                    raise
                reason = None
            if reason is StopReason.GONE:
                return await watch.last_word()
            if reason is not None:
                return reason
            if self._logs is not None:
                await asyncio.to_thread(self._logs.bound, uuid)
            await _wait(watch.changed, self._poll_s)

    async def _look(self, uuid: str) -> StopReason | None:
        """Ask whether the VM has stopped; what is not answered within the limit of silence counts as silence."""
        asked_at_s = time.monotonic()
        limit_s = min(LOOK_LIMIT_S, self._silence_limit_s)
        try:
            reason = await self._connection.call(functools.partial(domains.look, uuid=uuid), limit_s=limit_s)
        except NoSuchVm:
            self._silence.broken()
            raise
        except Unavailable as error:
            if not isinstance(error, NotAsked):
                self._silence.noticed(asked_at_s)
            raise
        self._silence.broken()
        return reason

    async def capabilities(self) -> Capabilities:
        """Tell what this libvirt and its QEMU offer to x86-64 guests."""
        return await self._ask(read_capabilities)

    async def close(self) -> None:
        """Close the connection; with `autodestroy` libvirt then destroys every VM started over it."""
        await self._restarts.close()
        await self._connection.close()

    async def _create(self, xml: str) -> Vm:
        create = functools.partial(domains.create, xml=xml, flags=self._start_flags)
        return await self._connection.call(create, lane=Lane.CHANGE, limit_s=START_LIMIT_S, undo=self._undo_start)

    async def _ask(self, question: Callable[[libvirt.virConnect], T]) -> T:
        """Ask libvirt something that changes nothing, once more where the connection broke meanwhile."""
        try:
            return await self._connection.call(question)
        except ConnectionLost:
            return await self._connection.call(question)

    def _undo_start(self, connection: libvirt.virConnect, vm: Vm) -> None:
        try:
            domains.destroy(connection, vm.uuid)
        finally:
            if self._logs is not None:
                self._logs.remove_named(vm.name)

    def _on_lifecycle(self, uuid: str, event: int, detail: int) -> None:
        self._watches.of(uuid).on_lifecycle(event, detail)

    def _on_watchdog(self, uuid: str, action: int) -> None:
        self._watches.of(uuid).on_watchdog(action)


async def _wait(event: asyncio.Event, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await event.wait()


def _uuid_of(xml: str) -> str | None:
    return etree.fromstring(xml.encode(), etree.XMLParser(resolve_entities=False)).findtext("uuid")
