"""The client against the real broker; only the vm around it is missing."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from broker.app import running_broker
from broker.client.dispatch import DispatchClient
from broker.client.files import Content, Files, read_content
from broker.client.researcher import Researcher
from broker.client.session import Session
from broker.settings import load_settings
from broker.wire.dispatches import DispatchAnswer, DispatchRequest, Room
from broker.wire.items import ItemView, NewItem
from broker.wire.machines import Disk, MachineDefinition
from broker.wire.names import Digest, ItemRef, MachineRef, StreamRef, UserName
from broker.wire.states import Accelerator, ItemState
from broker.wire.streams import StreamSpec
from guest.exits import Exit
from tests.integration.guest.edge import CURRENT_ACCOUNT, started_guest

STREAM = StreamRef(UserName("alice"), "render")
XML = """
<domain type='kvm'>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os><type>hvm</type></os>
  <devices><disk type='file'><target dev='vda'/></disk></devices>
</domain>
"""


class Broker:
    """A broker with a machine, and the sessions of its first user and its first launcher."""

    def __init__(self, url: str, user: Session, launcher: Session) -> None:
        self.url = url
        self.researcher, self.files = Researcher(user), Files(user)
        self.dispatches = DispatchClient(launcher)

    async def push(self, run: str, url: str | None = None) -> ItemRef:
        await self.researcher.put_stream(STREAM, StreamSpec(machine="m", run=run, as_user=CURRENT_ACCOUNT))
        [pushed] = [answer async for answer in self.researcher.push(STREAM, [NewItem(url=url)], uuid4().hex)]
        return ItemRef(STREAM, pushed.first)

    async def dispatch(self) -> DispatchAnswer:
        room = Room(vcpus=2, memory_mib=1024, disk_mib=100_000, accelerator=Accelerator.TCG)
        answer = await self.dispatches.dispatch(
            DispatchRequest(dispatch_key=uuid4().hex, launcher="l", node="n", room=room, wait_ms=10_000)
        )
        assert answer is not None
        return answer

    async def item(self, item: ItemRef) -> ItemView:
        return await self.researcher.item(item)


@pytest.fixture
async def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    image = tmp_path / "image"
    image.write_bytes(b"an image")
    async with AsyncExitStack() as stack:
        settings = load_settings({"data": tmp_path / "data", "listen": "127.0.0.1:0", "user": "alice"})
        url = await stack.enter_async_context(running_broker(settings))

        async def logged_in(name: str) -> Session:
            token = json.loads((tmp_path / "config/vmbroker" / name).read_text())["token"]
            return await stack.enter_async_context(Session(url, token=token))

        broker = Broker(url, await logged_in("login.json"), await logged_in("launcher.json"))
        content = await read_content(image)
        await broker.files.put_image(image, content)
        disk = Disk(digest=content.digest, size_bytes=content.size_bytes)
        definition = MachineDefinition(domain_xml=XML, disks={"vda": disk})
        await broker.researcher.put_machine(MachineRef(UserName("alice"), "m"), definition)
        yield broker


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
