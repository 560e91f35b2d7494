"""How files come to a vm and go from it: one interface for all ways, and the default, the network.

A vm's run prepares its exchange before the boot, watches with it while the vm runs, and collects when the vm is gone.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn, Protocol

import structlog

from broker.wire.dispatches import DispatchAnswer
from broker.wire.port import Stop, Welcome
from launcher.domain_xml import DataDisk, Share
from launcher.exchange.folder import ItemFault
from launcher.exchange.grants import Grant
from launcher.exchange.port import GuestPort
from launcher.hypervisor.errors import HypervisorError
from launcher.hypervisor.vm import StopReason
from launcher.node.attendance import Attendance
from launcher.node.handing_over import HandedOver, hand_over
from launcher.node.node import Node
from launcher.node.verdicts import Ending

log = structlog.get_logger()

PORT_SOCKET = "port.sock"
_ENTROPY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachments:
    """What a vm gets beside its own disks; `has_client` for the disk by which our client comes.

    `handed_over` is what that is told where there is no port.
    """

    has_client: bool = False
    handed_over: HandedOver | None = None
    has_network: bool = False
    data_disks: tuple[DataDisk, ...] = ()
    shares: tuple[Share, ...] = ()


class Exchange(Protocol):
    async def stage(self) -> None:
        """Put the item into the vm's run folder, while that is the launcher's own.

        Raises:
            ItemFault: it cannot be, by a fault of the item's.
            OSError: it cannot be, on this node.
        """
        ...

    async def attach(self, overlays: Mapping[str, str]) -> Attachments:
        """Bring it to where the vm will find it; the run folder belongs to QEMU's account now.

        Args:
            overlays: The vm's disks, by their targets.

        Raises:
            ProgramFailed, NoRootFileSystem, OSError: it cannot be, on this node.
        """
        ...

    async def refuse(self, fault: ItemFault) -> Ending:
        """End an item that could not be prepared, by a fault of its own."""
        ...

    async def watch(self) -> Ending | None:
        """Do what a running vm needs; return when it has done its work (None), or is to be ended."""
        ...

    async def ask_to_stop(self, ending: Ending, in_ms: int) -> None:
        """Ask a running vm's guest to give its item back and power off; it is destroyed after `in_ms`.

        Never raises for a guest that cannot be asked.

        Args:
            ending: Why, and what the vm ends with when it stops without a result.
            in_ms: What is left to it.
        """
        ...

    async def collect(self, reason: StopReason | None) -> Ending | None:
        """Deliver what the vm left, now that it is gone; None where it left nothing that counts.

        Args:
            reason: Why it stopped; None when it was destroyed because it had done its work.
        """
        ...


class NetworkExchange:
    """The guest's client does everything, through the launcher's proxy; it is told where by the port.

    A guest without a driver for the port finds the same in its firmware configuration, or on its seed disk.
    """

    def __init__(self, node: Node, answer: DispatchAnswer, folder: Path, grant: Grant, attendance: Attendance) -> None:
        self._node = node
        self._answer = answer
        self._grant = grant
        self._attendance = attendance
        self._folder = folder
        self._port = ServedPort(folder, answer)
        self._handed_over: HandedOver | None = None

    async def stage(self) -> None:
        self._handed_over = await asyncio.to_thread(hand_over, self._folder, self._welcome(), self._node.account)

    async def attach(self, overlays: Mapping[str, str]) -> Attachments:  # noqa: ARG002 - of no use here
        return Attachments(has_client=True, handed_over=self._handed_over, has_network=True)

    async def refuse(self, fault: ItemFault) -> Ending:
        raise AssertionError("the network's items are prepared by their guests") from fault

    async def watch(self) -> Ending | None:
        await self._port.serve(self._greet)

    async def ask_to_stop(self, ending: Ending, in_ms: int) -> None:
        # A client that does not listen to its port hears it from the broker, with its next heartbeat.
        await self._port.ask_to_stop(ending, in_ms)

    async def collect(self, reason: StopReason | None) -> Ending | None:  # noqa: ARG002 - the guest has delivered
        return None

    def _greet(self) -> Welcome:
        self._attendance.greeted.set()
        return self._welcome()

    def _welcome(self) -> Welcome:
        return Welcome(
            ticket=self._answer.ticket,
            broker=self._node.broker,
            now=datetime.now(UTC).isoformat(),
            entropy=os.urandom(_ENTROPY_BYTES),
            proxy=self._grant.proxy_url(self._node.proxy_port),
            ca=self._node.ca_pem,
        )


def share_welcome(node: Node, tags: list[str]) -> Welcome:
    """Return what a guest is told that works by a shared folder: no secret, and no way to a network."""
    return Welcome(
        ticket="",
        broker=node.broker,
        now=datetime.now(UTC).isoformat(),
        entropy=os.urandom(_ENTROPY_BYTES),
        share=tags,
    )


class ServedPort:
    """A vm's port, from the launcher's side, for as long as the vm runs."""

    def __init__(self, folder: Path, answer: DispatchAnswer) -> None:
        self._path = folder / PORT_SOCKET
        self._log = log.bind(dispatch=answer.dispatch, item=answer.item)
        self._port: GuestPort | None = None

    async def serve(self, welcome: Callable[[], Welcome]) -> NoReturn:
        """Serve the port of a vm that runs, until cancelled."""
        try:
            async with GuestPort(self._path, on_log=lambda text: self._log.info("guest_said", text=text)) as self._port:
                await self._port.serve(welcome)
        except OSError as error:
            # Without the port the guest never claims, and the boot deadline says so.
            self._log.warning("port_lost", reason=str(error))
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

    async def ask_to_stop(self, ending: Ending, in_ms: int) -> bool:
        """Tell a guest that has our client; False when none was ever heard there."""
        if self._port is None:
            return False
        try:
            return await self._port.ask_to_stop(Stop(in_ms=in_ms, reason=ending.sentence))
        except TimeoutError:
            self._log.warning("port_not_read")
            return True


async def press_power_button(node: Node, answer: DispatchAnswer) -> None:
    """Ask a guest without our client to power off, as somebody at the machine would."""
    try:
        await node.hypervisor.press_power_button(answer.dispatch)
    except HypervisorError as error:
        log.warning("power_button_not_pressed", dispatch=answer.dispatch, reason=str(error))
