"""The client against the real broker; only the vm around it is missing."""

from pathlib import Path

import pytest

from broker.client.files import Content, read_content
from broker.client.lease import LeaseClient
from broker.client.session import Patience, Session
from broker.wire.accounts import UserSettings
from broker.wire.names import Digest
from broker.wire.states import FailureCode, ItemState
from guest.exits import Exit
from guest.steps.claim import claim_item, claim_key
from guest.steps.failure import StepFailed
from guest.steps.outputs import Output
from guest.steps.plugins import Plugins
from guest.steps.secrets import Secrets
from guest.steps.transfer import Transfers
from tests.integration.guest.edge import started_guest
from tests.integration.guest.real_broker import STREAM, Broker


async def test_an_item_is_done_with_its_output_in_the_file_service(real: Broker, tmp_path: Path) -> None:
    source = tmp_path / "frame 1.txt"
    source.write_bytes(b"abc" * 100_000)
    await real.files.put_file(source, "alice/in/frame 1.txt", await read_content(source))
    item = await real.push(
        'sh -c \'tr a-z A-Z <"$VMBROKER_INPUT" >"{output}/big one.txt"; echo said\'', "file:alice/in/frame 1.txt"
    )

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket) as guest:
        assert await guest.wait() == Exit.COMPLETED, guest.end.logs

    view = await real.item(item)
    assert view.state is ItemState.DONE
    [output] = view.outputs
    assert (output.name, output.size_bytes) == ("big one.txt", 300_000)
    assert await real.researcher.log(item) == b"said\n"
    assert view.vm is not None
    assert view.vm.facts["input_bytes"] == "300000"
    [result] = [line async for line in real.researcher.results(STREAM)]
    expected = Content(Digest(output.digest), output.size_bytes)
    await real.files.get_file(result.outputs[0].url, tmp_path / "result", expected)
    assert (tmp_path / "result").read_bytes() == b"ABC" * 100_000


async def test_the_sentence_of_a_failure_reaches_the_researcher(real: Broker, tmp_path: Path) -> None:
    item = await real.push("sh -c 'echo no licence >&2; exit 3'")

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket) as guest:
        assert await guest.wait() == Exit.ITEM_FAILED

    view = await real.item(item)
    assert (view.state, view.attempts, view.exit_code) == (ItemState.DELAYED, 1, 3)
    assert view.reason is not None
    assert view.reason.sentence == "the program exited with status 3: no licence"


async def test_an_item_given_back_counts_no_attempt(real: Broker, tmp_path: Path) -> None:
    item = await real.push("sh -c 'exit 75'")

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket) as guest:
        assert await guest.wait() == Exit.GIVEN_BACK

    view = await real.item(item)
    assert (view.state, view.attempts, view.boots) == (ItemState.READY, 0, 1)


async def test_a_ticket_used_a_second_time_by_another_vm_is_refused(real: Broker, tmp_path: Path) -> None:
    await real.push("true")

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket) as guest:
        assert await guest.wait() == Exit.COMPLETED
    async with started_guest(real.url, tmp_path / "another-run", ticket=dispatched.ticket) as guest:
        assert await guest.wait() == Exit.CLAIM_REFUSED
    assert any(line.startswith("the broker refused the ticket: ") for line in guest.end.logs)


async def test_an_output_that_its_user_has_no_room_for_fails_with_the_brokers_sentence(
    real: Broker, tmp_path: Path
) -> None:
    await real.push("true")
    await real.researcher.put_user("alice", UserSettings(most_file_bytes=10))
    (tmp_path / "o").write_bytes(b"x" * 1_000_000)

    async with Session(real.url) as session:
        client = LeaseClient(session)
        claimed = await claim_item(client, (await real.dispatch()).ticket, claim_key(tmp_path / "run", "a"))
        # The waiting between two tries is the judge's, and tried beside it: here is one try.
        secrets = Secrets(claimed.secrets, lambda _: None)
        transfers = Transfers(
            session, client, claimed, secrets, Plugins(claimed, secrets, None), upload_patience=Patience(attempts=1)
        )
        with pytest.raises(StepFailed) as failed:
            await transfers.put_output(Output("o", tmp_path / "o", 1_000_000))

    assert failed.value.code is FailureCode.UPLOAD_FAILED
    assert failed.value.sentence.startswith("the output o could not be uploaded: alice's room for files is full")
