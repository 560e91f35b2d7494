import msgspec
import pytest

from broker.http.prospects import reason_of
from broker.store import Prospect
from broker.wire.dispatches import Room
from broker.wire.machines import MachineView
from broker.wire.states import Accelerator
from broker.wire.streams import Needs, StreamSpec

ROOM = Room(vcpus=4, memory_mib=8_192, disk_mib=100_000, accelerator=Accelerator.KVM)
PART = msgspec.structs.replace(ROOM, vcpus=1)
LARGE = msgspec.structs.replace(ROOM, vcpus=64)
MACHINE = MachineView(
    machine="alice/deb12",
    revision=1,
    domain_xml="<domain/>",
    disks={},
    nvram=None,
    vcpus=1,
    memory_mib=1_024,
    firmware="bios",
    dropped=[],
)


def _prospect(vcpus: int, *launchers: str) -> Prospect:
    spec = StreamSpec(machine="deb12", run="true", needs=Needs(vcpus=vcpus))
    return Prospect(spec, MACHINE, canaries_out=False, launchers=frozenset(launchers))


@pytest.mark.parametrize("waiting", [[], [PART], [ROOM]], ids=["busy", "partly busy", "idle"])
def test_need_that_no_node_can_meet_is_told_at_once(waiting: list[Room]) -> None:
    reason = reason_of(_prospect(64, "l"), waiting, [ROOM])
    assert reason.code == "needs_unmet"
    assert (
        reason.sentence
        == "1 launcher is there, none with the room it needs even when idle: it wants 64 vcpus, 4 are free"
    )


@pytest.mark.parametrize(
    ("waiting", "largest"),
    [([], [ROOM, LARGE]), ([PART], [LARGE]), ([], [])],
    ids=["busy", "another waits", "not known yet"],
)
def test_need_that_a_busy_node_may_meet_waits_for_it(waiting: list[Room], largest: list[Room]) -> None:
    reason = reason_of(_prospect(64, "l", "m"), waiting, largest)
    assert reason.code == "launchers_busy"
    assert reason.sentence == "2 launchers are there, and none that may serve it has room for it now"


def test_item_that_fits_into_a_room_that_waits_is_next() -> None:
    assert reason_of(_prospect(4, "l"), [PART, ROOM], [ROOM, ROOM]).code == "its_turn_comes"


def test_nobody_there_is_told_as_that() -> None:
    assert reason_of(_prospect(4), [], []).code == "no_launcher"
