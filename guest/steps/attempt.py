"""One attempt at the item's work: its input fetched, its program run, its outputs delivered, within the run limit.

How files come and go is the carrier's; this is what is the same for every exchange, and what a program relies on.
Source: docs/reference/program.md.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from broker.wire.states import EXIT_GIVE_BACK, FailureCode
from guest.steps.account import Account
from guest.steps.bunch import at_most
from guest.steps.carrier import Carrier, Delivered
from guest.steps.command import Inputs, arguments, environment
from guest.steps.facts import client_name, guest_os, peak_rss_bytes, uptime_s
from guest.steps.failure import StepFailed
from guest.steps.outputs import collect
from guest.steps.program import Program, Tail, check_status, copy_to_console
from guest.steps.secrets import Secrets
from guest.steps.stopping import StopOrder, StopOrders
from guest.steps.work import Work
from guest.steps.workspace import Workspace

MAX_GRACE_S = 10.0
TRANSFERS_AT_ONCE = 4
"""Enough for many small files; one large one fills the line by itself."""

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(slots=True)
class Attempt:
    """The work on one item. `facts` and `tail` are filled as it goes, and count however it ends."""

    work: Work
    carrier: Carrier
    proxy: str | None
    say: Say
    stage: str = "claimed"
    facts: dict[str, str] = field(default_factory=dict)
    tail: Tail = field(default_factory=lambda: Tail(copy_to_console))
    started_at_s: float = field(default_factory=time.monotonic)
    orders: StopOrders = field(default_factory=StopOrders)
    secrets: Secrets = field(default_factory=lambda: Secrets((), lambda _: None))

    def __post_init__(self) -> None:
        self.facts = {
            "guest_os": guest_os(),
            "client": client_name(),
            "boot_to_claim_ms": str(round(uptime_s() * 1000)),
        }

    def progress(self) -> str:
        """Tell what goes on, and how far it is, for the broker's `status`."""
        how_far = self.carrier.progress()
        return f"{self.stage}: {how_far}" if how_far else self.stage

    @property
    def grace_s(self) -> float:
        """What a program gets between SIGTERM and SIGKILL: at most a twentieth of its limit, and what the vm has."""
        usual_s = min(MAX_GRACE_S, self.work.run_ms / 1000 / 20)
        return usual_s if self.orders.given is None else min(usual_s, self.orders.given.left_s)

    def left_s(self) -> float:
        """Return what is left of the run limit, in which a stopped program and its log still have to find their place.

        The broker ends the item itself at the limit; ours comes a little earlier, so that it learns why.
        """
        return self.started_at_s + self.work.run_ms / 1000 - 2 * self.grace_s - time.monotonic()

    async def carry_out(self) -> list[Delivered]:
        """Fetch, run, deliver.

        Raises:
            StepFailed: whatever is the item's fault, the run limit included; and with exit status 75, which gives the
                item back, when the vm has to end before the item is done.
        """
        try:
            async with asyncio.timeout(self.left_s()):
                return await self._steps()
        except TimeoutError as error:
            raise StepFailed(
                FailureCode.RUN_TIMEOUT,
                f"the run limit of {self.work.run_ms / 1000:g} s was reached while {self.stage}",
            ) from error
        finally:
            self.facts["client_peak_rss_bytes"] = str(peak_rss_bytes())

    async def _steps(self) -> list[Delivered]:
        account = Account.find(self.work.as_user)
        workspace = self._workspace()
        try:
            self.secrets.open(workspace.secrets, account)
            await self._unless_ordered(self._fetch_and_run(workspace, account), lambda _: 0.0)
            # A program that ended by itself has its result: it is delivered as far as there is time.
            return await self._unless_ordered(self._deliver(workspace), lambda order: order.left_s)
        finally:
            self.secrets.wipe()
            workspace.remove()

    async def _unless_ordered(self, work: Coroutine[Any, Any, T], allowed_s: Callable[[StopOrder], float]) -> T:
        """Do the work. When the vm has to end, it is cancelled after what the order allows, and the item given back.

        Raises:
            StepFailed: the work's own; or the item's return, whatever the work came to while it was cancelled.
        """
        working, ordered = asyncio.ensure_future(work), asyncio.ensure_future(self.orders.wait())
        try:
            await asyncio.wait({working, ordered}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await asyncio.wait({working}, timeout=allowed_s(ordered.result()))
        finally:
            is_done = working.done()
            working.cancel()
            ordered.cancel()
            await asyncio.wait({working, ordered})
        if is_done:
            return working.result()
        raise self._given_back(ordered.result())

    def _given_back(self, order: StopOrder) -> StepFailed:
        sentence = f"{order.reason}: given back while {self.stage}"
        return StepFailed(FailureCode.PROGRAM_FAILED, sentence, exit_code=EXIT_GIVE_BACK)

    async def _fetch_and_run(self, workspace: Workspace, account: Account) -> None:
        inputs = await self._fetch(workspace)
        await self._run(workspace, account, inputs)

    def _workspace(self) -> Workspace:
        try:
            workspace = Workspace.make()
            workspace.write_features(self.work)
            workspace.write_script(self.work.script)
        except OSError as error:
            raise StepFailed(
                FailureCode.INPUT_UNAVAILABLE, f"no working folder can be made in the vm: {error.strerror}"
            ) from error
        return workspace

    async def _fetch(self, workspace: Workspace) -> Inputs:
        wanted = self._wanted(workspace)
        if not wanted:
            return Inputs()
        self.stage = "fetching the input" if len(wanted) == 1 else "fetching the inputs"
        started_at_s = time.monotonic()
        brought = await at_most(
            TRANSFERS_AT_ONCE, [partial(self.carrier.fetch_input, path, name) for name, path in wanted.items()]
        )
        fetched = dict(zip(wanted, brought, strict=True))
        self.facts["fetch_ms"] = _ms_since(started_at_s)
        own = fetched.pop("", None)
        if own is not None:
            self.facts |= {"input_bytes": str(own.size_bytes), "input_digest": own.digest}
        if fetched:
            self.facts["further_input_bytes"] = str(sum(each.size_bytes for each in fetched.values()))
        for each in brought:
            self.say(f"fetched {each.path.name}, {each.size_bytes} bytes")
        return Inputs(None if own is None else own.path, {name: each.path for name, each in fetched.items()})

    def _wanted(self, workspace: Workspace) -> dict[str, Path]:
        """Return where each input goes, by name; the item's own has none."""
        own = {} if self.work.input_name is None else {"": workspace.input_path(self.work.input_name)}
        try:
            further = {name: workspace.further_path(name, file) for name, file in self.work.inputs.items()}
        except (OSError, ValueError) as error:
            raise StepFailed(FailureCode.INPUT_UNAVAILABLE, f"an input has no place in the vm: {error}") from error
        return own | further

    async def _run(self, workspace: Workspace, account: Account, inputs: Inputs) -> None:
        self.stage = "running the program"
        program = Program(
            arguments(self.work, workspace, inputs),
            environment(self.work, workspace, inputs, account, self.proxy) | self.secrets.variables(),
            workspace.work,
            account,
            lambda: self.grace_s,
        )
        workspace.hand_over(account)
        self.say(f"running {program.arguments[0]}")
        started_at_s = time.monotonic()
        try:
            status = await program.run(self.tail)
        finally:
            self.facts["run_ms"] = _ms_since(started_at_s)
        check_status(status, self.tail)

    async def _deliver(self, workspace: Workspace) -> list[Delivered]:
        self.stage = "uploading the output"
        started_at_s = time.monotonic()
        outputs = collect(workspace.output, self.work)
        if not outputs:
            self.say(f"the output folder holds no file that matches {' '.join(self.work.output_files)}")
        delivered = await at_most(TRANSFERS_AT_ONCE, [partial(self.carrier.put_output, output) for output in outputs])
        self.facts["upload_ms"] = _ms_since(started_at_s)
        self.say(f"uploaded {len(delivered)} files, {sum(file.size_bytes for file in delivered)} bytes")
        return delivered


def _ms_since(started_at_s: float) -> str:
    return str(round((time.monotonic() - started_at_s) * 1000))
