"""The protocol as its page tells it, by the client in sh and curl, against the real broker."""

import os
import shutil
from pathlib import Path

import pytest

from broker.client.files import Content, read_content
from broker.wire.dispatches import DispatchExtend, EndVm
from broker.wire.names import Digest
from broker.wire.states import ItemState, Verdict
from guest.exits import Exit
from tests.integration.guest.edge import Client, EdgeBroker, eventually, started_guest
from tests.integration.guest.real_broker import STREAM, Broker
from tests.support.grid import REPOSITORY, processes_naming

CLIENT = REPOSITORY / "docs" / "reference" / "guest-client.sh"
SHELLS = (("dash",), ("busybox", "sh"))


@pytest.fixture(params=SHELLS, ids=" ".join)
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    """The client under a shell; busybox's also brings its own awk, tr, sed and the like, but not curl."""
    shell: tuple[str, ...] = request.param
    program = shutil.which(shell[0])
    assert program is not None, f"{shell[0]} is needed: deploy/setup/system-packages test"
    return Client((program, *shell[1:], str(CLIENT)), takes_options=False)


async def test_an_item_is_done_with_its_outputs(real: Broker, tmp_path: Path, client: Client) -> None:
    source = tmp_path / "frame 1.txt"
    source.write_bytes(b"abc" * 100_000)
    await real.files.put_file(source, "alice/in/frame 1.txt", await read_content(source))
    item = await real.push(
        'sh {script} {input} "{param.seed}" plain',
        "file:alice/in/frame 1.txt",
        script=(
            '#!/bin/sh\necho "$#: $2 $3"; [ "$1" = "$VMBROKER_INPUT" ] && [ "$PWD/frame 1.txt" = "$1" ] &&\n'
            'mkdir "$VMBROKER_OUTPUT/sub" && tr a-z A-Z <"$1" >"$VMBROKER_OUTPUT/sub/big one.txt" &&\n'
            'printf %s "$VMBROKER_PARAM_SEED" >"$VMBROKER_OUTPUT/\'quoted\' & \\"named\\".txt" &&\n'
            'ln -s /etc/passwd "$VMBROKER_OUTPUT/link"\n'
        ),
        seed="$(id) \"two\"\n'words' é",
    )

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket, client=client) as guest:
        assert await guest.wait() == Exit.COMPLETED, (tmp_path / "guest.out").read_text()

    view = await real.item(item)
    assert view.state is ItemState.DONE
    assert (await real.researcher.log(item)).decode() == "3: $(id) \"two\"\n'words' é plain\n"
    [result] = [line async for line in real.researcher.results(STREAM)]
    contents = {}
    for output in result.outputs:
        path = tmp_path / "result"
        await real.files.get_file(output.url, path, Content(Digest(output.digest), output.size_bytes))
        contents[output.name] = path.read_bytes()
        path.unlink()
    assert contents == {
        "sub/big one.txt": b"ABC" * 100_000,
        "'quoted' & \"named\".txt": "$(id) \"two\"\n'words' é".encode(),
    }
    assert list(tmp_path.glob("vmbroker.*")) == []


async def test_further_inputs_come_and_what_is_known_of_outputs_is_told(
    broker: EdgeBroker, tmp_path: Path, client: Client
) -> None:
    broker.input_bytes, broker.inputs = b"own", {"dark": b"the dark", "flat_1": b"the flat"}
    broker.run = "sh {script} {input} {input.dark}"
    broker.script = 'cat "$1" "$2" "$VMBROKER_INPUT_FLAT_1" >"$VMBROKER_OUTPUT/all"; ls "${2%/*}"\n'

    async with started_guest(broker.url, tmp_path / "run", client=client) as guest:
        assert await guest.wait() == Exit.COMPLETED, (tmp_path / "guest.out").read_text()

    assert broker.files == {"all": b"ownthe darkthe flat"}
    assert broker.uploads["all"].size_bytes == 19
    assert (broker.folders, broker.puts) == (["all-folder"], ["all"])
    assert broker.completed is not None
    assert broker.completed.log == b"same name\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run a program as somebody else")
async def test_the_program_runs_as_the_stream_wants(real: Broker, tmp_path: Path, client: Client) -> None:
    item = await real.push("sh -c 'id -un; echo x >\"{output}/a b\"'", as_user="nobody")

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket, client=client) as guest:
        assert await guest.wait() == Exit.COMPLETED, (tmp_path / "guest.out").read_text()

    assert await real.researcher.log(item) == b"nobody\n"
    assert [output.name for output in (await real.item(item)).outputs] == ["a b"]


async def test_a_program_that_fails_fails_the_item(real: Broker, tmp_path: Path, client: Client) -> None:
    item = await real.push("sh -c 'echo no licence >&2; exit 3'")

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket, client=client) as guest:
        assert await guest.wait() == Exit.ITEM_FAILED

    view = await real.item(item)
    assert (view.state, view.attempts, view.exit_code) == (ItemState.DELAYED, 1, 3)
    assert view.reason is not None
    assert view.reason.sentence == "the program exited with status 3"
    assert await real.researcher.log(item) == b"no licence\n"


async def test_exit_status_75_gives_the_item_back(real: Broker, tmp_path: Path, client: Client) -> None:
    item = await real.push("sh -c 'exit 75'")

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket, client=client) as guest:
        assert await guest.wait() == Exit.GIVEN_BACK

    view = await real.item(item)
    assert (view.state, view.attempts, view.boots) == (ItemState.READY, 0, 1)


async def test_a_lost_lease_stops_the_program(real: Broker, tmp_path: Path, client: Client) -> None:
    begun = tmp_path / "begun"
    item = await real.push(f"sh -c 'touch {begun}; exec sleep 600.5'")

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket, client=client) as guest:
        await eventually(begun.exists)
        await real.dispatches.end(
            dispatched.dispatch, EndVm(launcher="l", verdict=Verdict.HOST_ERROR, sentence="the node failed")
        )
        assert await guest.wait() == Exit.LEASE_LOST

    assert processes_naming("sleep 600.5") == []
    assert (await real.item(item)).state is ItemState.READY


async def test_a_drain_stops_the_program_and_gives_the_item_back(real: Broker, tmp_path: Path, client: Client) -> None:
    begun = tmp_path / "begun"
    item = await real.push(f"sh -c 'trap \"exit 0\" TERM; touch {begun}; while :; do sleep 0.1; done'")

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket, client=client) as guest:
        await eventually(begun.exists)
        await real.dispatches.extend(dispatched.dispatch, DispatchExtend(launcher="l", stops_in_ms=60_000))
        assert await guest.wait() == Exit.GIVEN_BACK

    view = await real.item(item)
    assert (view.state, view.attempts, view.boots) == (ItemState.READY, 0, 1)


async def test_a_spent_ticket_is_final(real: Broker, tmp_path: Path, client: Client) -> None:
    await real.push("true")
    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket, client=client) as guest:
        assert await guest.wait() == Exit.COMPLETED
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket, client=client) as guest:
        assert await guest.wait() == Exit.CLAIM_REFUSED
        await eventually(lambda: any(line.startswith("the broker refused the ticket: ") for line in guest.end.logs))
