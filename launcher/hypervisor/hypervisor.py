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
from collections import OrderedDict
from pathlib import Path
from typing import Final, Self

import libvirt
import structlog
from lxml import etree

from launcher.hypervisor.capabilities import Capabilities, read_capabilities
from launcher.hypervisor.connection import Connection
from launcher.hypervisor.errors import Conflict, ConnectionLost, NoSuchVm, Unavailable
from launcher.hypervisor.libvirt_tables import stop_by_event, stop_by_state, stop_by_watchdog
from launcher.hypervisor.qemu_logs import QemuLogs
from launcher.hypervisor.vm import StopReason, Vm

log = structlog.get_logger()

# The first VM after libvirtd's start waits for QEMU's capabilities; on a node busy with 20 starts one took 15 s.
START_LIMIT_S: Final = 120.0
POLL_S: Final = 5.0
SILENCE_LIMIT_S: Final = 30.0
# libvirt removes a domain a moment before it sends the event that says why.
LAST_WORD_S: Final = 1.0
DESTROY_TRIES: Final = 3
BUTTON_LIMIT_S: Final = 10.0
# Stops of VMs that nobody waits for (a site's libvirt runs others' too) are forgotten, oldest first.
REMEMBERED_STOPS: Final = 1024


class _Watch:
    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.reason: StopReason | None = None


class Hypervisor:
    """Starts, watches and destroys VMs at one libvirt; made inside a running loop, closed by `async with`.

    Args:
        uri: A private daemon's, or the one a site names. With a site's, nothing is isolated beyond what that site does.
        log_folder: A private daemon's; QEMU's logs there are kept small, and removed with their VMs. A site's libvirt
            looks after its own.
        poll_s: How often a running VM is looked at without an event.
        silence_limit_s: How long a question about a VM may stay unanswered before its watcher is told so.
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
        autodestroy: bool = True,
    ) -> None:
        self._logs = None if log_folder is None else QemuLogs(log_folder)
        self._poll_s = poll_s
        self._silence_limit_s = silence_limit_s
        self._watches: OrderedDict[str, _Watch] = OrderedDict()
        # Not VALIDATE: the schema wants an order of elements that neither libvirt nor older exports keep.
        self._start_flags = libvirt.VIR_DOMAIN_START_AUTODESTROY if autodestroy else libvirt.VIR_DOMAIN_NONE
        self._connection = Connection(
            uri, on_lifecycle=self._on_lifecycle, on_watchdog=self._on_watchdog, on_lost=self._on_lost
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
            await self._pull_plug(uuid)
            return await self._create(xml)

    async def press_power_button(self, uuid: str) -> None:
        """Ask the guest to power itself off, as by the button of its case; whether it does is the guest's to decide.

        Does nothing to a VM that is gone.

        Raises:
            Unavailable: libvirt could not be asked within ten seconds.
        """
        with contextlib.suppress(NoSuchVm, Conflict):
            await self._connection.call(functools.partial(_press_power_button, uuid=uuid), limit_s=BUTTON_LIMIT_S)

    async def destroy(self, uuid: str) -> None:
        """Pull the VM's plug; returns when it is gone, at once if it was already. Takes one or two seconds.

        To be called for each VM that was to start, however it ended: what is left of it in the log folder goes with it.

        Raises:
            Unavailable: It could not be destroyed, several times over.
        """
        await self._pull_plug(uuid)
        if self._logs is not None:
            await asyncio.to_thread(self._logs.remove, uuid)

    async def _pull_plug(self, uuid: str) -> None:
        for tries_left in reversed(range(DESTROY_TRIES)):
            try:
                return await self._connection.call(functools.partial(_destroy, uuid=uuid))
            except (NoSuchVm, Conflict):
                return None
            except Unavailable:
                if not tries_left:
                    raise
        return None

    async def list_vms(self, metadata_namespace: str | None = None) -> list[Vm]:
        """List the running VMs, or those of them that carry a metadata element of this namespace."""
        return await self._connection.call(functools.partial(_list, metadata_namespace=metadata_namespace))

    async def describe(self, uuid: str) -> str:
        """Return the XML of a running VM.

        Raises:
            NoSuchVm: It does not run any more.
        """
        return await self._connection.call(functools.partial(_describe, uuid=uuid))

    async def wait_stopped(self, uuid: str) -> StopReason:
        """Wait until the VM has stopped or can only be destroyed.

        Raises:
            Unavailable: libvirt could not be asked for `silence_limit_s`.
        """
        watch = self._watch(uuid)
        answered_at_s = time.monotonic()
        while True:
            watch.changed.clear()
            if watch.reason is not None:
                return watch.reason
            try:
                reason = await self._connection.call(functools.partial(_look, uuid=uuid))
                answered_at_s = time.monotonic()
            except NoSuchVm:
                return await self._last_word(uuid)
            except Unavailable:
                if time.monotonic() - answered_at_s > self._silence_limit_s:
                    raise
                reason = None
            if reason is StopReason.GONE:
                return await self._last_word(uuid)
            if reason is not None:
                return reason
            if self._logs is not None:
                await asyncio.to_thread(self._logs.bound, uuid)
            await _wait(watch.changed, self._poll_s)

    async def capabilities(self) -> Capabilities:
        """Tell what this libvirt and its QEMU offer to x86-64 guests."""
        return await self._connection.call(read_capabilities)

    async def close(self) -> None:
        """Close the connection; with `autodestroy` libvirt then destroys every VM started over it."""
        await self._connection.close()

    async def _create(self, xml: str) -> Vm:
        create = functools.partial(_create, xml=xml, flags=self._start_flags)
        return await self._connection.call(create, limit_s=START_LIMIT_S, undo=self._undo_start)

    def _undo_start(self, connection: libvirt.virConnect, vm: Vm) -> None:
        try:
            _destroy(connection, vm.uuid)
        finally:
            if self._logs is not None:
                self._logs.remove_named(vm.name)

    async def _last_word(self, uuid: str) -> StopReason:
        watch = self._watch(uuid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD_S):
                # Not any event will do: one that gives no reason, such as SHUTDOWN, may come before STOPPED.
                while watch.reason is None:
                    watch.changed.clear()
                    await watch.changed.wait()
        return watch.reason or StopReason.GONE

    def _watch(self, uuid: str) -> _Watch:
        watch = self._watches.setdefault(uuid, _Watch())
        while len(self._watches) > REMEMBERED_STOPS:
            self._watches.popitem(last=False)
        return watch

    def _on_lifecycle(self, uuid: str, event: int, detail: int) -> None:
        watch = self._watch(uuid)
        watch.reason = watch.reason or stop_by_event(event, detail)
        watch.changed.set()

    def _on_watchdog(self, uuid: str, action: int) -> None:
        watch = self._watch(uuid)
        watch.reason = watch.reason or stop_by_watchdog(action)
        watch.changed.set()

    def _on_lost(self) -> None:
        for watch in self._watches.values():
            watch.changed.set()


async def _wait(event: asyncio.Event, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await event.wait()


def _uuid_of(xml: str) -> str | None:
    return etree.fromstring(xml.encode(), etree.XMLParser(resolve_entities=False)).findtext("uuid")


def _create(connection: libvirt.virConnect, xml: str, flags: int) -> Vm:
    domain = connection.createXML(xml, flags)
    return Vm(domain.UUIDString(), domain.name())


def _press_power_button(connection: libvirt.virConnect, uuid: str) -> None:
    connection.lookupByUUIDString(uuid).shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)


def _destroy(connection: libvirt.virConnect, uuid: str) -> None:
    connection.lookupByUUIDString(uuid).destroy()


def _describe(connection: libvirt.virConnect, uuid: str) -> str:
    xml: str = connection.lookupByUUIDString(uuid).XMLDesc()
    return xml


def _look(connection: libvirt.virConnect, uuid: str) -> StopReason | None:
    return stop_by_state(connection.lookupByUUIDString(uuid))


def _list(connection: libvirt.virConnect, metadata_namespace: str | None) -> list[Vm]:
    domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    return [
        Vm(domain.UUIDString(), domain.name())
        for domain in domains
        if metadata_namespace is None or _has_metadata(domain, metadata_namespace)
    ]


def _has_metadata(domain: libvirt.virDomain, namespace: str) -> bool:
    try:
        domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, namespace)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN):
            return False
        raise
    return True
