"""Clients of earlier releases against the present broker: a launcher brings its own, and launchers are updated late."""

import zipfile
from pathlib import Path

import pytest

from broker.client.files import read_content
from broker.wire.states import ItemState
from guest.exits import Exit
from tests.integration.guest.edge import OUR_CLIENT, Client, started_guest
from tests.integration.guest.real_broker import Broker
from tests.support.freeze_client import frozen_clients


@pytest.fixture(params=frozen_clients(), ids=lambda path: path.stem)
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    """Unpack a release's client, and run that in place of the present one."""
    archive: Path = request.param
    folder = tmp_path / archive.stem
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    # -P: not the working folder's packages, which are the present ones, but those of the archive.
    interpreter, *arguments = OUR_CLIENT.command
    return Client((interpreter, "-P", *arguments), environment={"PYTHONPATH": str(folder)})


async def test_an_earlier_client_does_an_item_of_the_present_broker(
    real: Broker, tmp_path: Path, client: Client
) -> None:
    source = tmp_path / "frame.txt"
    source.write_bytes(b"abc")
    await real.files.put_file(source, "alice/in/frame.txt", await read_content(source))
    item = await real.push(
        "sh -c 'cat \"$VMBROKER_INPUT\"; cp {input} {output}/{param.name}'", "file:alice/in/frame.txt", name="copy"
    )

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket, client=client) as guest:
        assert await guest.wait() == Exit.COMPLETED, (tmp_path / "guest.out").read_text()

    view = await real.item(item)
    assert view.state is ItemState.DONE
    assert [(output.name, output.size_bytes) for output in view.outputs] == [("copy", 3)]
    assert view.vm is not None
    version = client.environment["PYTHONPATH"].rpartition("-")[2]
    assert view.vm.facts["client"] == f"vmbroker-guest/{version}", "the archive's client ran, not the present one"
    assert guest.end.hellos == [f"vmbroker-guest/{version}"]


async def test_the_failure_that_an_earlier_client_tells_is_understood(
    real: Broker, tmp_path: Path, client: Client
) -> None:
    item = await real.push("sh -c 'echo no licence >&2; exit 3'")

    dispatched = await real.dispatch()
    async with started_guest(real.url, tmp_path / "run", ticket=dispatched.ticket, client=client) as guest:
        assert await guest.wait() == Exit.ITEM_FAILED

    view = await real.item(item)
    assert (view.state, view.exit_code) == (ItemState.DELAYED, 3)
    assert view.reason is not None
    assert view.reason.sentence == "the program exited with status 3: no licence"
