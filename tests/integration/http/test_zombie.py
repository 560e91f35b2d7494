"""A vm that lost its item as it uploaded holds good addresses still, and can do nothing to the accepted result."""

from typing import Any

import pytest

from tests.support.api import Api, add_stream, claim, digest_of, offer, put_output

ACCEPTED = b"the accepted result"


async def running(launcher: Api) -> tuple[str, Api]:
    """Give an item out; return its dispatch and its guest."""
    given = await launcher.ok("POST", "/v1/dispatch", json=offer())
    claimed = await claim(launcher, given["ticket"])
    return given["dispatch"], launcher.bearing(claimed.json["lease"])


@pytest.mark.parametrize("to", ["file:{user}/{job}/{item}/{run}/{name}", "file:{user}/out/{name}"])
async def test_a_zombie_cannot_touch_an_accepted_result(user: Api, launcher: Api, to: str) -> None:
    stream = await add_stream(user, output={"files": ["*"], "to": to})
    await user.ok("POST", f"{stream}/items", json=[{}])
    dispatch, zombie = await running(launcher)
    signed = (await zombie.ok("POST", "/v1/lease/urls", json={"outputs": ["out.txt"]}))["outputs"]["out.txt"]
    end = {"launcher": "l1", "verdict": "drained", "sentence": "its node lost sight of it"}
    await launcher.ok("POST", f"/v1/dispatches/{dispatch}/end", json=end)

    _, guest = await running(launcher)
    output = await put_output(guest, ACCEPTED)
    await guest.ok("POST", "/v1/lease/complete", json={"outputs": [output]})

    async def put(url: str, headers: dict[str, str] | None = None) -> Any:
        return await zombie.bearing(None).call("PUT", url, data=b"of a zombie", headers=headers or {})

    # Its address is good still, and leads beside the accepted result; on that path it opens nothing.
    assert (await put(signed["url"], signed["headers"])).status == 201
    [result] = (await user.ok("GET", f"{stream}/items/1"))["outputs"]
    assert signed["target"] != result["url"]
    path, own = (f"/v1/files/{url.removeprefix('file:')}" for url in (result["url"], signed["target"]))
    assert (await put(signed["url"].replace(own, path))).code == "forbidden"
    assert (await zombie.bearing(None).call("DELETE", signed["url"])).status in {401, 403}
    false = {"name": "out.txt", "size_bytes": 11, "digest": digest_of(b"of a zombie"), "url": signed["target"]}
    for route, body in (
        ("urls", {"outputs": ["out.txt"]}),
        ("complete", {"outputs": [false]}),
        ("complete", {"outputs": [output]}),
        ("fail", {"code": "program_failed", "sentence": "out of spite"}),
    ):
        assert (await zombie.call("POST", f"/v1/lease/{route}", json=body)).code == "lease_lost"

    assert (await user.call("GET", path)).body == ACCEPTED
    item = await user.ok("GET", f"{stream}/items/1")
    assert (item["state"], item["outputs"]) == ("done", [result])
