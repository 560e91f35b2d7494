"""Secrets are taken out of what vms say that were given them."""

import base64
from pathlib import Path

from tests.integration.http.sealed.scene import (
    AUTHORITY,
    LICENCE,
    PROXY,
    TOKEN,
    Labelled,
    claim,
    kept_below,
    needy_item,
    put,
)
from tests.support import certificates
from tests.support.api import Api, put_output


async def test_what_a_vm_says_is_kept_without_the_secrets_it_was_given(
    user: Api, labelled: Labelled, tmp_path: Path
) -> None:
    await put(user)
    await put(user, "licence", LICENCE, "file")
    trusted = labelled("renci")
    stream, given = await needy_item(user, trusted, secrets=[{"name": "proxy"}, {"name": "licence"}])
    guest = user.bearing((await claim(user, given["ticket"])).json["lease"])
    fresh = certificates.proxy(certificates.person(AUTHORITY, "alice")).as_proxy_file
    await put(user, value=fresh)
    await guest.ok("POST", "/v1/lease/urls", json={"secrets": {"proxy": 1, "licence": 2}})
    for name in ("proxy", "licence"):
        await user.call("DELETE", f"/v1/secrets/alice/{name}")
    said = b"\r\n".join([*PROXY.splitlines(), *fresh.splitlines(), base64.b64encode(LICENCE), b"the end"])
    encoded = base64.b64encode(said).decode()
    one_line = LICENCE.splitlines()[1].decode()
    failure = {
        "code": "program_failed",
        "sentence": f"the program exited with status 3: {one_line}",
        "exit_code": 3,
        "facts": {"last": one_line},
        "log": encoded,
    }
    await guest.ok("POST", "/v1/lease/fail", json=failure)
    end = {
        "launcher": "l1",
        "verdict": "item_failed",
        "sentence": one_line,
        "facts": {"x": one_line},
        "console": encoded,
    }
    await trusted.ok("POST", f"/v1/dispatches/{given['dispatch']}/end", json=end)
    item = await user.ok("GET", f"{stream}/items/1")
    assert item["reason"]["sentence"] == "the program exited with status 3: [secret]"
    assert (item["vm"]["facts"]["last"], item["vm"]["facts"]["x"]) == ("[secret]", "[secret]")
    for what in ("log", "console"):
        kept = (await user.call("GET", f"{stream}/items/1/{what}")).body
        assert kept.endswith(b"\r\n[secret]\r\nthe end")
        assert [
            line for line in (*PROXY.splitlines(), *fresh.splitlines()) if b"---" not in line and line in kept
        ] == []
    for value in (PROXY, fresh, LICENCE):
        assert kept_below(tmp_path / "data", value) == []


async def test_a_completions_log_is_masked_as_well(user: Api, labelled: Labelled) -> None:
    await put(user, "token", TOKEN, "bearer_token")
    stream, given = await needy_item(user, labelled("renci"), secrets=[{"name": "token"}])
    guest = user.bearing((await claim(user, given["ticket"])).json["lease"])
    output = await put_output(guest, b"a result")
    log = base64.b64encode(b"used " + TOKEN + b" there").decode()
    await guest.ok("POST", "/v1/lease/complete", json={"outputs": [output], "facts": {"t": TOKEN.decode()}, "log": log})
    assert (await user.call("GET", f"{stream}/items/1/log")).body == b"used [secret] there"
    assert (await user.ok("GET", f"{stream}/items/1"))["vm"]["facts"]["t"] == "[secret]"
