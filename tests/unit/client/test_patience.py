"""Who works on items waits for a broker that is away for ten minutes, however the pauses fall."""

import pytest

from broker.client.session import Patience
from guest.steps.claim import CLAIM_PATIENCE
from guest.steps.transfer import SIGNING_PATIENCE, UPLOAD_PATIENCE
from launcher.node import phases, stand_in, vm_run

OUTAGE_S = 600
SHORTEST = 0.5
"""What jitter leaves of a pause, at least."""


@pytest.mark.parametrize(
    "patience",
    [
        CLAIM_PATIENCE,
        SIGNING_PATIENCE,
        UPLOAD_PATIENCE,
        phases._PATIENCE,
        stand_in._CLAIM_PATIENCE,
        vm_run._REPORT_PATIENCE,
    ],
)
def test_ten_minutes_without_a_broker_are_waited_for(patience: Patience) -> None:
    pauses_s = (
        min(patience.max_delay_s, patience.first_delay_s * 2.0 ** min(n, 30)) for n in range(patience.attempts - 1)
    )
    assert sum(pauses_s) * SHORTEST >= OUTAGE_S
    assert patience.total_s >= OUTAGE_S
