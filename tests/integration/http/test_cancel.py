import pytest

from tests.support.api import Api, add_stream, claim, offer, put_output


async def _started(user: Api, launcher: Api) -> tuple[str, str, Api]:
    """Return the path of a running item, its dispatch, and its guest's calls."""
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])
    given = await launcher.ok("POST", "/v1/dispatch", json=offer())
    guest = launcher.bearing((await claim(launcher, given["ticket"])).json["lease"])
    return f"{stream}/items/1", given["dispatch"], guest


async def test_guest_and_launcher_of_a_cancelled_item_are_told_so_and_its_result_is_refused(
    user: Api, launcher: Api
) -> None:
    item, dispatch, guest = await _started(user, launcher)
    output = await put_output(guest, b"the result")

    cancelled = await user.ok("POST", f"{item}/cancel")

    assert cancelled["state"] == "cancelled"
    assert cancelled["reason"] == {"code": "cancelled", "sentence": "alice cancelled it"}
    assert await guest.ok("POST", "/v1/lease/extend", json={}) == {"instruction": "cancel"}
    told = await launcher.ok("POST", f"/v1/dispatches/{dispatch}/extend", json={"launcher": "l1"})
    assert told == {"instruction": "cancel", "state": "over"}
    event = {"launcher": "l1", "phase": "started"}
    assert (await launcher.ok("POST", f"/v1/dispatches/{dispatch}/events", json=event))["instruction"] == "cancel"
    refused = [
        await guest.call("POST", "/v1/lease/urls", json={}),
        await guest.call("POST", "/v1/lease/complete", json={"outputs": [output]}),
        await guest.call("POST", "/v1/lease/fail", json={"code": "program_failed", "sentence": "stopped"}),
    ]
    assert {answer.code for answer in refused} == {"lease_lost"}
    assert (await user.ok("GET", item))["state"] == "cancelled"


async def test_a_result_that_came_before_the_cancel_stands(user: Api, launcher: Api) -> None:
    item, _, guest = await _started(user, launcher)
    completion = {"outputs": [await put_output(guest, b"the result")]}
    settled = await guest.ok("POST", "/v1/lease/complete", json=completion)

    refused = await user.call("POST", f"{item}/cancel")

    assert (refused.status, refused.code) == (409, "settled")
    assert refused.json["detail"] == "alice/render/1 is done already: there is nothing to cancel"
    assert await guest.ok("POST", "/v1/lease/complete", json=completion) == settled


async def test_a_ticket_of_a_cancelled_item_buys_nothing(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}, {}])
    given = await launcher.ok("POST", "/v1/dispatch", json=offer())
    await user.ok("POST", f"{stream}/items/1/cancel")

    assert (await claim(launcher, given["ticket"])).code == "ticket_spent"
    assert (await launcher.ok("POST", "/v1/dispatch", json=offer()))["item"] == "alice/render/2"


async def test_a_cancelled_item_is_listed_counted_and_cancelled_once(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}, {}])
    await user.ok("POST", f"{stream}/items/2/cancel")

    again = await user.ok("POST", f"{stream}/items/2/cancel")
    assert again == await user.ok("GET", f"{stream}/items/2")
    assert (await user.call("POST", f"{stream}/items/3/cancel")).code == "not_found"
    assert [item["item"] for item in (await user.ok("GET", f"{stream}/items?state=cancelled"))["items"]] == [
        "alice/render/2"
    ]
    counts = (await user.ok("GET", stream))["counts"]
    assert {state: count for state, count in counts.items() if count} == {"ready": 1, "cancelled": 1}


@pytest.mark.parametrize(("scope", "code"), [("queue.read:/alice", "forbidden"), ("queue.cancel:/bob", "not_found")])
async def test_who_may_not_cancel_is_refused(user: Api, launcher: Api, issue: object, scope: str, code: str) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])
    assert callable(issue)

    assert (await user.bearing(issue("carol", scope)).call("POST", f"{stream}/items/1/cancel")).code == code
