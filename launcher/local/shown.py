"""What `launcher ps` prints."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from broker.wire.dispatches import Room
from broker.wire.states import HealthState
from launcher.exchange.printable import printable
from launcher.local.launchers import Found
from launcher.node.state_file import LauncherState
from launcher.node.vms import VmSeen

_MAX_CHARS: Final = 400


def lines(found: Found, now: datetime) -> Iterator[str]:
    """Yield the lines about one launcher."""
    state = found.state
    if not found.is_alive:
        left = plain(str(found.folder))
        yield f"{plain(found.name)}  left over: {left} is removed by the next launcher that starts there"
    elif state is None:
        yield f"{plain(found.name)}  starts"
    else:
        yield f"{plain(state.name)}  {_health(state, now)}"
        where = f"at {plain(state.broker)}, in {plain(str(found.folder))}"
        yield f"  process {state.pid}, for {_age(state.since, now)}, {where}"
        yield f"  slot: {_room(state.total)}; free: {_room(state.free)}{_end(state, now)}"
        for size, source in state.sources.items():
            yield f"    {plain(size)} from {plain(source)}"
        for vm in state.vms:
            yield f"  {_vm(vm, now)}"
        if state.vm_count > len(state.vms):
            yield f"  and {state.vm_count - len(state.vms)} vms more"


def _health(state: LauncherState, now: datetime) -> str:
    health = state.health
    words = [health.state.value.replace("_", " ")]
    if health.code is not None and health.state is not HealthState.HEALTHY:
        words.append(f"({health.code.value})")
    if health.since is not None:
        words.append(f"for {_age(health.since, now)}")
    told = " ".join(words)
    if health.sentence:
        told += f": {plain(health.sentence)}"
    return told + (f"; tries again at {plain(health.retry_at)}" if health.retry_at else "")


def _room(room: Room | None) -> str:
    if room is None:
        return "none"
    sizes = f"{room.vcpus} vcpus, {room.memory_mib:,} MiB memory, {room.disk_mib:,} MiB disk"
    return f"{sizes}, {room.accelerator.value}, {' '.join(room.exchanges)}"


def _end(state: LauncherState, now: datetime) -> str:
    if state.ends_at is None:
        return ""
    left_s = (_time(state.ends_at) - now).total_seconds()
    return f"; ends in {_duration(left_s)}" if left_s > 0 else "; its time is over"


def _vm(vm: VmSeen, now: datetime) -> str:
    sizes = f"{vm.vcpus} vcpus, {vm.memory_mib:,} MiB"
    return f"{plain(vm.dispatch[:8])}  {plain(vm.item)}  {vm.phase.value} for {_age(vm.since, now)}, {sizes}"


def _age(since: str, now: datetime) -> str:
    return _duration((now - _time(since)).total_seconds())


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return datetime.now(UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _duration(seconds: float) -> str:
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size_s:
            return f"{int(seconds // size_s)} {unit}"
    return f"{max(0, int(seconds))} s"


def plain(text: str) -> str:
    """Return text of another account's, fit for a terminal."""
    return printable(text, _MAX_CHARS)
