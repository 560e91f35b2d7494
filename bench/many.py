"""Many vms at once, by the launcher and by as many `virsh create` begun together."""

import asyncio
import time
from contextlib import AsyncExitStack

from bench.boots import BOOT_LIMIT_S
from bench.figures import Figure, median_of, ratio_of
from bench.ground import LAUNCHED, PLAIN, Ground, RunningLauncher, until
from bench.plain import Floor, Pattern

VMS = 10
_LIMIT_S = BOOT_LIMIT_S * 2
_END_LIMIT_S = 240


async def measure(
    ground: Ground, launcher: RunningLauncher, floor: Floor, pattern: Pattern, *, rounds: int
) -> list[Figure]:
    """Boot ten at once in both ways, each round in the other order."""
    launched: list[float] = []
    plain: list[float] = []
    for turn in range(rounds):
        for kind in (("launcher", "plain"), ("plain", "launcher"))[turn % 2]:
            if kind == "launcher":
                launched.append(await _by_launcher(ground, launcher))
            else:
                plain.append(await _on_the_floor(ground, floor, pattern))
    return [
        median_of(f"{VMS} vms at once: launcher", "s", launched, reference="from the push to the last first request"),
        median_of(f"{VMS} vms at once: virsh create", "s", plain, reference="from before the commands, all together"),
        ratio_of(
            f"{VMS} vms at once, launcher / virsh create",
            launched,
            plain,
            reference=f"{VMS} plain virsh create at once",
            at_most=1.15,
        ),
    ]


async def _by_launcher(ground: Ground, launcher: RunningLauncher) -> float:
    over = _over(launcher)
    begun_ns = time.time_ns()
    first = await asyncio.to_thread(ground.push, LAUNCHED, VMS)
    last_ns = await _last_claim_ns(ground, LAUNCHED, first)
    await until(lambda: _over(launcher) >= over + VMS, "the launcher is done with all vms", limit_s=_END_LIMIT_S)
    return (last_ns - begun_ns) / 1e9


def _over(launcher: RunningLauncher) -> int:
    return sum(life.is_over for life in launcher.lives().values())


async def _on_the_floor(ground: Ground, floor: Floor, pattern: Pattern) -> float:
    first = await asyncio.to_thread(ground.push, PLAIN, VMS)
    async with AsyncExitStack() as stack:
        dispatches = [await stack.enter_async_context(ground.taken()) for _ in range(VMS)]
        vms = [await floor.prepare(pattern, dispatch) for dispatch in dispatches]
        async with asyncio.TaskGroup() as starts:
            begun_ns = time.time_ns()
            for vm in vms:
                starts.create_task(stack.enter_async_context(floor.running(vm, "virsh")))
        last_ns = await _last_claim_ns(ground, PLAIN, first)
    return (last_ns - begun_ns) / 1e9


async def _last_claim_ns(ground: Ground, stream: str, first: int) -> int:
    claims = [await ground.claimed_ns(stream, number, limit_s=_LIMIT_S) for number in range(first, first + VMS)]
    return max(claims)
