"""The launcher's few verbs for VMs.

What is authoritative is libvirt's answer to a question; its events only make the question be asked sooner. An event can
be lost with its connection, and a guest that dies meanwhile sends none, so every wait also polls.

VMs are transient and belong to this connection: when it closes, libvirt destroys them.
"""

import asyncio
import contextlib
import functools
from collections import OrderedDict
from pathlib import Path
from typing import Final, Self

import libvirt

from launcher.hypervisor.capabilities import Capabilities, read_capabilities
from launcher.hypervisor.connection import Connection
from launcher.hypervisor.errors import Conflict, NoSuchVm, Unavailable
from launcher.hypervisor.libvirt_tables import stop_by_event, stop_by_state
from launcher.hypervisor.qemu_logs import QemuLogs
from launcher.hypervisor.vm import StopReason, Vm

# The first VM after libvirtd's start waits for QEMU's capabilities; on a node busy with 20 starts one took 15 s.
START_LIMIT_S: Final = 120.0
POLL_S: Final = 5.0
SILENCE_LIMIT_S: Final = 30.0
# libvirt removes a domain a moment before it sends the event that says why.
LAST_WORD_S: Final = 1.0
DESTROY_TRIES: Final = 3
# Stops of VMs that nobody waits for (a site's libvirt runs others' too) are forgotten, oldest first.
REMEMBERED_STOPS: Final = 1024

# Not VALIDATE: the schema wants an order of elements that libvirt itself does not, nor did older exports keep it.
START_FLAGS: Final = libvirt.VIR_DOMAIN_START_AUTODESTROY


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
    """

    def __init__(
        self,
        uri: str,
        *,
        log_folder: Path | None = None,
        poll_s: float = POLL_S,
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> None:
        self._logs = None if log_folder is None else QemuLogs(log_folder)
        self._poll_s = poll_s
        self._silence_limit_s = silence_limit_s
        self._watches: OrderedDict[str, _Watch] = OrderedDict()
        self._connection = Connection(uri, self._on_lifecycle)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start_vm(self, xml: str) -> Vm:
        """Start a transient VM that dies with this connection; it may run even before this returns.

        When this is cancelled or times out, a VM that starts all the same is destroyed.

        Raises:
            Rejected: libvirt does not accept the XML.
            Conflict: A VM of this name or UUID runs.
            Unavailable: The node could not start it.
        """
        if self._logs is not None:
            self._logs.expect(xml)
        return await self._connection.call(
            functools.partial(_create, xml=xml), limit_s=START_LIMIT_S, undo=self._undo_start
        )

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

    async def wait_stopped(self, uuid: str) -> StopReason:
        """Wait until the VM has stopped or can only be destroyed.

        Raises:
            Unavailable: libvirt could not be asked for `silence_limit_s`.
        """
        watch = self._watch(uuid)
        silent_s = 0.0
        while True:
            watch.changed.clear()
            if watch.reason is not None:
                return watch.reason
            try:
                reason = await self._connection.call(functools.partial(_look, uuid=uuid))
                silent_s = 0.0
            except NoSuchVm:
                return await self._last_word(uuid)
            except Unavailable:
                silent_s += self._poll_s
                if silent_s > self._silence_limit_s:
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
        """Close the connection; libvirt then destroys every VM started over it."""
        await self._connection.close()

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


async def _wait(event: asyncio.Event, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await event.wait()


def _create(connection: libvirt.virConnect, xml: str) -> Vm:
    domain = connection.createXML(xml, START_FLAGS)
    return Vm(domain.UUIDString(), domain.name())


def _destroy(connection: libvirt.virConnect, uuid: str) -> None:
    connection.lookupByUUIDString(uuid).destroy()


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
