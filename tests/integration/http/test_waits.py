"""What a ready item waits for, told with the item."""

from tests.support.api import Api, add_stream, offer


async def _waits(user: Api, stream: str, number: int) -> tuple[str, str]:
    waits = (await user.ok("GET", f"{stream}/items/{number}"))["waits"]
    return waits["code"], waits["sentence"]


async def test_items_of_every_revision_are_told_the_truth_while_the_only_launcher_is_busy(
    user: Api, launcher: Api
) -> None:
    stream = await add_stream(user, needs={"vcpus": 64})
    await user.ok("POST", f"{stream}/items", json=[{}])
    await add_stream(user, needs={"vcpus": 4})
    await user.ok("POST", f"{stream}/items", json=[{}, {}])

    assert (await launcher.ok("POST", "/v1/dispatch", json=offer()))["item"] == "alice/render/2"

    code, sentence = await _waits(user, stream, 1)
    assert (code, sentence.rpartition(": ")[2]) == ("needs_unmet", "it wants 64 vcpus, 4 are free")
    assert (await _waits(user, stream, 3))[0] == "launchers_busy"
