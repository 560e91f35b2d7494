"""Why a ready item is not given out: what the store knows, and the launchers that wait in this process.

The first of the reasons that holds is told. With several processes each knows only the launchers that wait at it, so
what is said of those is what one of them sees.
"""

from broker.domain import deadlines, placement
from broker.domain.canary import CANARIES
from broker.domain.scopes import Authority
from broker.http.call import Services
from broker.store import Prospect
from broker.wire.dispatches import Room
from broker.wire.items import ItemView, Reason
from broker.wire.machines import MachineView
from broker.wire.names import parse_item
from broker.wire.streams import StreamSpec


async def waits_for(services: Services, item: ItemView) -> Reason:
    """Return what a ready item waits for."""
    ref = parse_item(item.item, None).stream
    prospect = await services.store.prospect(ref, item.revision)
    rooms = [
        offer.request.room
        for offer in services.waiting.offers()
        if offer.scopes.permit(Authority.DISPATCH, (ref.user,))
    ]
    return _reason(prospect, rooms)


def _reason(prospect: Prospect, rooms: list[Room]) -> Reason:
    machine = prospect.machine
    if machine is None:
        name = prospect.spec.machine
        gone = "is not there, or no longer shared with you" if "/" in name else "is not there: add it again"
        return Reason(code="machine_missing", sentence=f"its machine {name} {gone}")
    if prospect.canaries_out:
        number = {2: "two"}.get(CANARIES, str(CANARIES))
        sentence = f"{number} canaries of this stream are out; more follow when one of them has claimed"
        return Reason(code="canaries_out", sentence=sentence)
    if not prospect.launchers:
        return Reason(code="no_launcher", sentence="no launcher has been heard of lately: start one, `launcher run`")
    if not rooms:
        return Reason(
            code="launchers_busy",
            sentence=f"{_launchers(prospect.launchers)} there, and none that may serve it has room to offer now",
        )
    faults = [_unmet(prospect.spec, machine, room) for room in rooms]
    unmet = next((fault for fault in faults if fault is not None), None)
    if unmet is None or None in faults:
        return Reason(code="its_turn_comes", sentence="a launcher with room for it waits: its turn comes in a moment")
    return Reason(
        code="needs_unmet", sentence=f"{_launchers(len(rooms))} waiting, none with the room it needs: it {unmet}"
    )


def _unmet(spec: StreamSpec, machine: MachineView, room: Room) -> str | None:
    size = placement.size_of(spec.needs, machine.vcpus, machine.memory_mib, room)
    return placement.unmet(spec.needs, size, deadlines.boot_ms(spec.limits.boot_ms, room.accelerator), room)


def _launchers(number: int) -> str:
    return "1 launcher is" if number == 1 else f"{number} launchers are"
