"""The short form of the fault test; `make chaos` runs the same for as long as is asked."""

from pathlib import Path

import pytest

from tests.fault import plan
from tests.fault.checker import check
from tests.fault.scene import run
from tests.fault.way import Fate

_SECONDS = 35


@pytest.mark.timeout(400)
async def test_nothing_is_lost_or_doubled_while_everything_dies(tmp_path: Path, fault_seed: int) -> None:
    evidence = await run(fault_seed, _SECONDS, tmp_path)

    story = f"seed {fault_seed}, histories in {tmp_path}\n{evidence.summary()}"
    assert not (faults := check(evidence)), "\n".join([*map(str, faults), story])
    times = evidence.times()
    wanted = [*plan.Strike, Fate.DROP_ANSWER, Fate.DOUBLE, Fate.REPEAT_LATE]
    assert not [fault for fault in wanted if not times[fault]], f"a run in which too little went wrong: {story}"
    assert all(stream.counts["done"] for stream in evidence.streams), story
