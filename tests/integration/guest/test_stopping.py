"""The word that the vm has to end soon, at each stage of the work: the item is given back, or was done in time."""

import asyncio
import time
from pathlib import Path

import pytest

from broker.wire.states import Instruction
from guest.exits import Exit
from guest.shared import work_in
from guest.steps.stopping import StopOrders
from tests.integration.guest.edge import EdgeBroker, eventually, started_guest
from tests.integration.guest.test_by_share import result_of, shared_item
from tests.integration.guest.test_one_item import is_alive

NO_TIME_MS, MUCH_TIME_MS = 200, 60_000
WAITS_FOR_TERM = (
    'trap "echo got TERM; echo late >{output}/late; exit 0" TERM; echo $$ >{pid}.new; mv {pid}.new {pid}; '
    "while :; do sleep 0.05; done"
)


def program(text: str, pid: Path) -> str:
    return f"sh -c '{text.replace('{pid}', str(pid))}'"


@pytest.mark.parametrize("way", ["port", "broker"])
async def test_a_program_is_stopped_and_its_item_given_back_even_when_it_then_ends_well(
    broker: EdgeBroker, tmp_path: Path, way: str
) -> None:
    pid = tmp_path / "pid"
    broker.run = program(WAITS_FOR_TERM, pid)
    async with started_guest(broker.url, tmp_path / "run") as guest:
        await eventually(pid.exists)
        if way == "port":
            guest.end.tell_stop(MUCH_TIME_MS)
        else:
            broker.instruction = Instruction.DRAIN

        assert await guest.wait() == Exit.GIVEN_BACK

    said = {"port": "the slot ends", "broker": "the launcher gives its vms up"}[way]
    assert broker.failed is not None
    assert broker.failed.exit_code == 75
    assert b"got TERM" in broker.failed.log
    assert broker.failed.sentence == f"{said}: given back while running the program"
    assert broker.completed is None
    assert broker.files == {}
    assert not is_alive(pid)


async def test_a_program_that_does_not_stop_is_killed_before_the_vm_ends(broker: EdgeBroker, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    broker.run = program("trap : TERM; echo $$ >{pid}.new; mv {pid}.new {pid}; while :; do sleep 0.05; done", pid)
    broker.run_ms = 200_000
    async with started_guest(broker.url, tmp_path / "run") as guest:
        await eventually(pid.exists)
        began_s = time.monotonic()
        guest.end.tell_stop(2_000)

        assert await guest.wait() == Exit.GIVEN_BACK
        assert time.monotonic() - began_s < 10, "its usual grace is ten seconds"

    assert not is_alive(pid)


async def test_an_item_whose_input_is_being_fetched_is_given_back_at_once(broker: EdgeBroker, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    broker.input_bytes, broker.gates = b"abc", {"GET": asyncio.Event()}
    broker.run = f"touch {begun}"
    async with started_guest(broker.url, tmp_path / "run") as guest:
        await eventually(lambda: "GET" in broker.transfers)
        guest.end.tell_stop(MUCH_TIME_MS)

        assert await guest.wait() == Exit.GIVEN_BACK

    assert broker.failed is not None
    assert broker.failed.sentence == "the slot ends: given back while fetching the input"
    assert not begun.exists()


async def test_a_result_that_is_being_uploaded_is_delivered_while_there_is_time(
    broker: EdgeBroker, tmp_path: Path
) -> None:
    broker.run, broker.gates = "sh -c 'echo x >{output}/o'", {"PUT": asyncio.Event()}
    async with started_guest(broker.url, tmp_path / "run") as guest:
        await eventually(lambda: "PUT" in broker.transfers)
        beats = len(broker.progress)
        guest.end.tell_stop(MUCH_TIME_MS)
        await eventually(lambda: len(broker.progress) > beats + 2)
        broker.gates["PUT"].set()

        assert await guest.wait() == Exit.COMPLETED

    assert broker.files == {"o": b"x\n"}


async def test_an_upload_that_takes_too_long_gives_the_item_back(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.run, broker.gates = "sh -c 'echo x >{output}/o'", {"PUT": asyncio.Event()}
    async with started_guest(broker.url, tmp_path / "run") as guest:
        await eventually(lambda: "PUT" in broker.transfers)
        guest.end.tell_stop(NO_TIME_MS)

        assert await guest.wait() == Exit.GIVEN_BACK
        broker.gates["PUT"].set()

    assert broker.completed is None
    assert broker.failed is not None
    assert broker.failed.exit_code == 75


async def test_a_word_that_came_before_the_claim_is_not_lost(broker: EdgeBroker, tmp_path: Path) -> None:
    broker.faults = [("claim", 500)] * 3
    async with started_guest(broker.url, tmp_path / "run") as guest:
        await eventually(lambda: bool(guest.end.hellos))
        guest.end.tell_stop(MUCH_TIME_MS)

        assert await guest.wait() == Exit.GIVEN_BACK

    assert broker.completed is None


async def test_the_item_of_a_share_is_given_back_by_its_result(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    folder = shared_item(tmp_path / "share", run=program(WAITS_FOR_TERM, pid))
    orders = StopOrders()
    working = asyncio.create_task(work_in(folder, lambda _: None, orders))
    await eventually(pid.exists)
    orders.give("the slot ends", MUCH_TIME_MS)

    assert await working == Exit.GIVEN_BACK
    result = result_of(folder)
    assert (result["exit_code"], result["sentence"]) == (75, "the slot ends: given back while running the program")
    assert list((folder / "out" / "output").iterdir()) == []
