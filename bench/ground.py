"""Where everything is measured: one broker with its embedded store, machines and streams, and launchers.

The researcher's and the launcher's own commands and calls are used, in a home of the benchmark's own.
"""

import asyncio
import base64
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.failing import BenchFailed
from bench.trace import Life, read_lives
from broker.client.dispatch import DispatchClient
from broker.client.session import Session
from broker.wire.dispatches import DispatchAnswer, DispatchExtend, DispatchRequest, EndVm, Room, VmEvent
from broker.wire.states import Accelerator, Phase, Verdict
from launcher.hypervisor.account import Account
from tests.integration.hypervisor.guests import IDLE, Guest
from tests.support.grid import REPOSITORY, Broker, Home, built_image, free_port
from tests.support.launching import short_folder

DOMAIN = REPOSITORY / "tests" / "support" / "domains" / "minimal.xml"
LAUNCHED, PLAIN, TINY = "launched", "plain", "tiny"
"""The streams: what launchers run, what runs without them, and the guests that do nothing."""

PROGRAM = '/bin/sh -c "sleep 3"'
"""Longer than the launcher takes to hear of the claim, as every real program is."""
_LAUNCHERS_DISK_MIB, _PLAIN_DISK_MIB = 100_000, 200_000
"""Launchers offer the one and plain vms want the other, so that no launcher takes an item that is to run without it."""
_TAKER = "plain"
_LOOK_S = 0.2
_STOP_S = 180


@dataclass(frozen=True)
class Ground:
    """A running broker and the folder that all of the run is in."""

    folder: Path
    broker: Broker
    dispatches: DispatchClient
    image: Path

    def push(self, stream: str, count: int) -> int:
        """Push items that have no input; return the first one's number. Blocks."""
        path = f"/v1/streams/alice/{stream}/items"
        return int(self.broker.call("POST", path, [{}] * count, self.broker.token())["first"])

    def item(self, stream: str, number: int) -> dict[str, Any]:
        """Return what the broker says of an item. Blocks."""
        path = f"/v1/streams/alice/{stream}/items/{number}"
        item: dict[str, Any] = self.broker.call("GET", path, token=self.broker.token())
        return item

    def count(self, stream: str, phase: str) -> int:
        """Count the stream's items whose vm has come to this phase. Blocks."""
        return sum(phase in phases(item) for item in self.broker.items(stream))

    async def claimed_ns(self, stream: str, number: int, *, limit_s: float) -> int:
        """Wait until the guest has claimed; return when that was, in nanoseconds of the epoch, a millisecond exact."""

        def is_claimed() -> bool:
            item = self.item(stream, number)
            is_lost = item["state"] == "held" and "claimed" not in phases(item)
            if is_lost:
                raise BenchFailed(f"{stream}/{number} was not claimed: {item['reason']['sentence']}")
            return "claimed" in phases(item)

        await until(is_claimed, f"{stream}/{number} is claimed", limit_s=limit_s)
        claimed = phases(await asyncio.to_thread(self.item, stream, number))["claimed"]
        return round(datetime.fromisoformat(claimed).timestamp() * 1000) * 1_000_000

    async def prove(self, stream: str) -> None:
        """Claim one item of the stream by hand: until a first vm has claimed, the broker gives out only a few."""
        await asyncio.to_thread(self.push, stream, 1)
        async with self.taken() as dispatch:
            claim = {"ticket": dispatch.ticket, "claim_key": base64.b64encode(secrets.token_bytes(32)).decode()}
            await asyncio.to_thread(self.broker.call, "POST", "/v1/claim", claim)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[DispatchAnswer]:
        """Take the next item that is ready, attend to it for the block, and tell at the end that its vm is gone."""
        room = Room(vcpus=64, memory_mib=1 << 20, disk_mib=_PLAIN_DISK_MIB, accelerator=Accelerator.TCG)
        request = DispatchRequest(
            dispatch_key=secrets.token_hex(16), launcher=_TAKER, node="bench", room=room, wait_ms=5_000
        )
        answer = await self.dispatches.dispatch(request)
        if answer is None:
            raise BenchFailed("the broker gave no item")
        for phase in (Phase.PREPARING, Phase.BOOTING):
            await self.dispatches.report(answer.dispatch, VmEvent(launcher=_TAKER, phase=phase))
        attending = asyncio.create_task(self._attend(answer))
        try:
            yield answer
        finally:
            attending.cancel()
            await asyncio.wait([attending])
        end = EndVm(launcher=_TAKER, verdict=Verdict.STOPPED_EARLY, sentence="it was measured up to its claim")
        await self.dispatches.end(answer.dispatch, end)

    async def _attend(self, dispatch: DispatchAnswer) -> None:
        while True:
            await asyncio.sleep(dispatch.limits.heartbeat_ms / 1000)
            await self.dispatches.extend(dispatch.dispatch, DispatchExtend(launcher=_TAKER))

    def booted_xml(self, stream: str, number: int) -> str:
        """Return the domain that an item's last vm was booted with. Blocks."""
        url = f"{self.broker.url}/v1/streams/alice/{stream}/items/{number}/domain-xml"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.broker.token()}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())


@dataclass(frozen=True)
class RunningLauncher:
    """A launcher's process; `trace` is empty of lives unless it was started traced."""

    pid: int
    trace: Path

    def lives(self) -> dict[str, Life]:
        return read_lives(self.trace)


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """Run a broker with the machines and streams of all figures, for the block."""
    built = await asyncio.to_thread(built_image, "minimal")
    with short_folder("vb-") as folder:
        image = folder / "image.qcow2"
        await asyncio.to_thread(shutil.copyfile, built, image)
        image.chmod(0o444)
        broker = Broker(Home(folder), free_port())
        with broker.serving():
            await asyncio.to_thread(_add_streams, broker, image)
            async with Session(broker.url, token=broker.token("launcher")) as session:
                here = Ground(folder, broker, DispatchClient(session), image)
                for stream in (LAUNCHED, PLAIN, TINY):
                    await here.prove(stream)
                yield here


def _add_streams(broker: Broker, image: Path) -> None:
    home = broker.home
    tiny = Guest(IDLE)
    tiny_disk = tiny.make_disk(home.folder, Account.choose())
    tiny_xml = home.folder / "tiny.xml"
    tiny_xml.write_text(tiny.on_file(tiny_disk))
    home.ok("broker", "machine", "add", "minimal", str(DOMAIN), "--disk", f"vda={image}")
    home.ok("broker", "machine", "add", "tiny", str(tiny_xml), "--disk", f"hda={tiny_disk}")
    once = ("--attempts", "1", "--boots", "1")
    for stream, machine, more in (
        (LAUNCHED, "minimal", ("--disk-mib", "1024")),
        (PLAIN, "minimal", ("--disk-mib", str(_PLAIN_DISK_MIB))),
        (TINY, "tiny", ("--disk-mib", "64", "--boot-limit", "3600s")),
    ):
        home.ok("broker", "stream", "add", stream, "--machine", machine, "--run", PROGRAM, *once, *more)


@contextmanager
def launcher(ground: Ground, name: str, *, vms: int, memory_mib: int, is_traced: bool) -> Iterator[RunningLauncher]:
    """Run a launcher for the block; it is told to stop at the end, and killed if it does not."""
    trace = ground.folder / f"{name}.trace"
    trace.touch()
    program = (
        (sys.executable, "-m", "bench.traced_launcher", str(trace))
        if is_traced
        else (str(Path(sys.executable).parent / "launcher"),)
    )
    arguments = {
        "name": name,
        "scratch": ground.folder / "n",
        "cache": ground.folder / "c",
        "vms": vms,
        "vcpus": vms,
        "memory-mib": memory_mib,
        "disk-mib": _LAUNCHERS_DISK_MIB,
    }
    given = [part for option, value in arguments.items() for part in (f"--{option}", str(value))]
    log = ground.folder / f"{name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*program, "run", *given],
            cwd=REPOSITORY,
            env=ground.broker.home.environment(),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield RunningLauncher(process.pid, trace)
    except BaseException:
        sys.stderr.write(f"the end of the log of the launcher {name}:\n{log.read_text()[-3_000:]}\n")
        raise
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def phases(item: dict[str, Any]) -> dict[str, str]:
    """Return when the item's last vm came to which phase."""
    found: dict[str, str] = item.get("vm", {}).get("phases", {})
    return found


async def until(condition: Callable[[], bool], what: str, *, limit_s: float) -> None:
    """Wait for a condition, which blocks for moments.

    Raises:
        BenchFailed: it did not come within the time.
    """
    ends_s = time.monotonic() + limit_s
    while not await asyncio.to_thread(condition):
        if time.monotonic() > ends_s:
            raise BenchFailed(f"{what}: not within {limit_s:g} s")
        await asyncio.sleep(_LOOK_S)
