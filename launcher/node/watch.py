"""Watch a running vm: the hypervisor's word, the broker's word, the boot deadline, whichever ends it first."""

import asyncio
import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path

import structlog

from broker.client.session import CallError, Patience
from broker.wire.dispatches import DispatchAnswer, VmEvent
from broker.wire.port import Welcome
from broker.wire.states import Instruction, ItemState, Phase, Verdict
from launcher.exchange.grants import Grant
from launcher.exchange.port import GuestPort
from launcher.hypervisor.private_daemon import PROXY_PORT
from launcher.node.console import Console
from launcher.node.node import Node
from launcher.node.preparation import CONSOLE_LOG, PORT_SOCKET
from launcher.node.verdicts import STOPPED, Ending

log = structlog.get_logger()

_ENTROPY_BYTES = 32
_CLAIM_LOOK_S = 1.0
"""How often the broker is asked between the guest's first sign of life and its claim, so that `claimed` is reported
early."""
_CONSOLE_LOOK_S = 2.0
_HEARTBEAT_PATIENCE = Patience(attempts=1)
"""A missed heartbeat is made up for by the next; the vm goes on while the broker is away."""


class Watch:
    """The watch over one vm from its start to the first thing that ends it."""

    def __init__(self, node: Node, answer: DispatchAnswer, folder: Path, grant: Grant) -> None:
        self._node = node
        self._answer = answer
        self._folder = folder
        self._grant = grant
        self.was_claimed = False
        self._greeted = asyncio.Event()

    async def until_over(self) -> Ending:
        """Return what ended the vm: its own stop, the boot deadline, or the broker's word."""
        async with asyncio.TaskGroup() as group:
            beside = (group.create_task(self._serve_port()), group.create_task(self._keep_console_small()))
            enders = {group.create_task(self._stopped()), group.create_task(self._attended())}
            done, pending = await asyncio.wait(enders, return_when=asyncio.FIRST_COMPLETED)
            for task in (*beside, *pending):
                task.cancel()
            return done.pop().result()

    async def _keep_console_small(self) -> None:
        console = Console(self._folder / CONSOLE_LOG)
        while True:
            await asyncio.sleep(_CONSOLE_LOOK_S)
            await asyncio.to_thread(console.trim)

    async def _stopped(self) -> Ending:
        return STOPPED[await self._node.hypervisor.wait_stopped(self._answer.dispatch)]

    async def _attended(self) -> Ending:
        """Show the broker that the vm is watched, until it says otherwise or the boot deadline passes."""
        loop = asyncio.get_running_loop()
        boot_ends = loop.time() + self._answer.limits.boot_ms / 1000
        while True:
            await self._pause()
            ending = await self._look()
            if ending is not None:
                return ending
            if not self.was_claimed and loop.time() > boot_ends:
                seconds = self._answer.limits.boot_ms // 1000
                return Ending(
                    Verdict.NEVER_CLAIMED,
                    f"no guest client claimed the item within {seconds} s of the boot; its console tells why",
                )

    async def _pause(self) -> None:
        """Wait a heartbeat; less while the claim is to be expected."""
        if self._greeted.is_set() and not self.was_claimed:
            await asyncio.sleep(_CLAIM_LOOK_S)
            return
        watched = asyncio.Event() if self.was_claimed else self._greeted
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._answer.limits.heartbeat_ms / 1000):
                await watched.wait()

    async def _look(self) -> Ending | None:
        try:
            answer = await self._node.dispatches.extend(self._answer.dispatch, patience=_HEARTBEAT_PATIENCE)
            if answer.state == ItemState.RUNNING and not self.was_claimed:
                self.was_claimed = True
                await self._node.dispatches.report(self._answer.dispatch, VmEvent(phase=Phase.CLAIMED))
        except CallError:
            return None
        match answer.instruction:
            case Instruction.CONTINUE:
                return None
            case Instruction.CANCEL:
                return Ending(Verdict.CANCELLED, "the item was cancelled")
            case Instruction.DRAIN:
                return Ending(Verdict.DRAINED, "the launcher was asked to give its vms up")
            case Instruction.SUPERSEDED:
                return Ending(Verdict.SUPERSEDED, "the item is settled or was given to somebody else")

    async def _serve_port(self) -> None:
        async with GuestPort(self._folder / PORT_SOCKET, on_log=self._log_line) as port:
            greeting = asyncio.ensure_future(port.greeted.wait())
            greeting.add_done_callback(lambda _: self._greeted.set())
            try:
                await port.serve(self._welcome)
            finally:
                greeting.cancel()

    def _log_line(self, text: str) -> None:
        log.info("guest_said", dispatch=self._answer.dispatch, text=text)

    def _welcome(self) -> Welcome:
        return Welcome(
            ticket=self._answer.ticket,
            broker=self._node.broker,
            now=datetime.now(UTC).isoformat(),
            entropy=os.urandom(_ENTROPY_BYTES),
            proxy=self._grant.proxy_url(PROXY_PORT),
            ca=self._node.ca_pem,
        )
