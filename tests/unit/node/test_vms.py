from datetime import UTC, datetime

from broker.wire.states import Phase
from launcher.node.vms import Vms
from tests.unit.node.test_vm_run import ANSWER

TAKEN, CLAIMED, AGAIN = (datetime(2026, 1, 1, 12, minute, tzinfo=UTC) for minute in (0, 5, 9))


def test_a_phase_has_its_own_beginning() -> None:
    vms = Vms()
    vms.add(ANSWER, TAKEN)
    vms.note(ANSWER.dispatch, Phase.CLAIMED, CLAIMED)
    vms.note(ANSWER.dispatch, Phase.CLAIMED, AGAIN)
    (seen,) = vms.all()
    assert (seen.phase, seen.since) == (Phase.CLAIMED, CLAIMED.isoformat(timespec="seconds"))
