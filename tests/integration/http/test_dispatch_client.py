import pytest

from broker.client.dispatch import DispatchClient
from broker.client.session import Session, Unreachable
from broker.wire.dispatches import DispatchRequest, Room
from broker.wire.states import Accelerator
from tests.support.api import Api, add_stream


async def test_a_dispatch_asked_for_again_is_the_same_and_never_another_item(
    user: Api, launcher: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}, {}])
    room = Room(vcpus=1, memory_mib=4_096, disk_mib=20_480, accelerator=Accelerator.TCG)
    request = DispatchRequest(dispatch_key="a-key-of-sixteen-characters", launcher="l1", node="n", room=room, wait_ms=0)
    async with Session(launcher.url, token=launcher.token) as session:
        dispatches = DispatchClient(session)
        answer = await dispatches.dispatch(request)
        assert answer is not None
        again = await dispatches.again(answer.dispatch)
        assert (again.item, again.ticket) == (answer.item, answer.ticket)

        monkeypatch.setattr("broker.client.dispatch._KEY_KNOWN_S", -1.0)
        with pytest.raises(Unreachable, match="too old for its addresses to be signed anew"):
            await dispatches.again(answer.dispatch)
    assert [item["state"] for item in (await user.ok("GET", f"{stream}/items"))["items"]] == ["dispatched", "ready"]
