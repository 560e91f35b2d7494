"""One vm at a time: by the launcher, by plain `virsh create`, by QEMU alone, in turns."""

import asyncio
from collections import defaultdict

from bench.figures import Figure, median_of, ratio_of
from bench.ground import LAUNCHED, PLAIN, Ground, RunningLauncher, until
from bench.plain import Floor, Pattern, Way, pattern_of
from bench.trace import Life

BOOT_LIMIT_S = 240
_END_LIMIT_S = 60
_KIB = 1024
_WAYS: tuple[Way, ...] = ("virsh", "qemu")


async def learn_pattern(ground: Ground, launcher: RunningLauncher) -> Pattern:
    """Run a first item, which fills the caches; return the domain it was booted with."""
    number, _, _ = await _by_launcher(ground, launcher)
    xml = await asyncio.to_thread(ground.booted_xml, LAUNCHED, number)
    return pattern_of(xml, ground.image, "qcow2")


async def measure(
    ground: Ground, launcher: RunningLauncher, floor: Floor, pattern: Pattern, *, rounds: int
) -> list[Figure]:
    """Boot one vm of each kind a round, each round in the other order, after one of each that does not count."""
    for way in _WAYS:
        await _on_the_floor(ground, floor, pattern, way)
    floors: dict[Way, list[float]] = defaultdict(list)
    launched: list[float] = []
    lives: list[Life] = []

    async def launch() -> None:
        _, seconds, life = await _by_launcher(ground, launcher)
        launched.append(seconds)
        lives.append(life)

    for turn in range(rounds):
        is_first = turn % 2 == 0
        if is_first:
            await launch()
        for way in _WAYS if is_first else _WAYS[::-1]:
            floors[way].append(await _on_the_floor(ground, floor, pattern, way))
        if not is_first:
            await launch()
    return [*_first_request(launched, floors), *_own_work(lives)]


def _first_request(launched: list[float], floors: dict[Way, list[float]]) -> list[Figure]:
    return [
        median_of("first request: launcher", "s", launched, reference="from the dispatch's answer; warm cache"),
        median_of("first request: plain virsh create", "s", floors["virsh"], reference="from before the command"),
        median_of("first request: bare QEMU", "s", floors["qemu"], reference="from before the command"),
        ratio_of(
            "first request, launcher / virsh create",
            launched,
            floors["virsh"],
            reference="the same domain by plain virsh create",
            at_most=1.15,
            aim=1.05,
        ),
        ratio_of("first request, launcher / bare QEMU", launched, floors["qemu"], reference="the same QEMU alone"),
    ]


def _own_work(lives: list[Life]) -> list[Figure]:
    own_ms = [life.before_ms() + life.after_ms() for life in lives]
    return [
        median_of(
            "launcher's own work per vm",
            "ms",
            own_ms,
            reference="wall time beside createXML, QEMU, guest and destroy",
            at_most=300,
            aim=100,
        ),
        median_of("  of it before createXML", "ms", [life.before_ms() for life in lives], reference="from the answer"),
        median_of("  of it after QEMU's end", "ms", [life.after_ms() for life in lives], reference="to the verdict"),
        median_of("launcher's CPU time per vm", "ms", [life.cpu_ms() for life in lives], reference="children included"),
        median_of("createXML", "ms", [life.create_ms() for life in lives], reference="libvirt's, and QEMU's start"),
        median_of(
            "disk written per vm before the guest runs",
            "KiB",
            [life.written_bytes() / _KIB for life in lives],
            reference="run folder's blocks, or write_bytes of the launcher if more",
            at_most=_KIB,
        ),
    ]


async def _by_launcher(ground: Ground, launcher: RunningLauncher) -> tuple[int, float, Life]:
    """Run one item; return its number, the seconds from its dispatch to the guest's first request, its vm's life."""
    number = await asyncio.to_thread(ground.push, LAUNCHED, 1)
    claimed_ns = await ground.claimed_ns(LAUNCHED, number, limit_s=BOOT_LIMIT_S)
    dispatch = (await asyncio.to_thread(ground.item, LAUNCHED, number))["vm"]["dispatch"]
    await until(lambda: launcher.lives()[dispatch].is_over, "the launcher is done with the vm", limit_s=_END_LIMIT_S)
    life = launcher.lives()[dispatch]
    return number, (claimed_ns - life.taken_ns) / 1e9, life


async def _on_the_floor(ground: Ground, floor: Floor, pattern: Pattern, way: Way) -> float:
    """Boot the same domain without the launcher; return the seconds from the command to the guest's first request."""
    number = await asyncio.to_thread(ground.push, PLAIN, 1)
    async with ground.taken() as dispatch:
        vm = await floor.prepare(pattern, dispatch)
        async with floor.running(vm, way) as begun_ns:
            claimed_ns = await ground.claimed_ns(PLAIN, number, limit_s=BOOT_LIMIT_S)
            if way == "virsh":
                floor.learn(vm)
    return (claimed_ns - begun_ns) / 1e9
