"""Machines: what is accepted as one, who may see and use it, and what goes when it is removed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import IMAGE, XML, Api, add_machine, add_stream, claim, digest_of, offer, run_item

MACHINE = "/v1/machines/alice/m"
UEFI = XML.replace("<os>", "<os firmware='efi'>")
NVRAM = b"the variables of a machine's firmware"
Issue = Callable[..., str]


def disk(content: bytes = IMAGE, **more: Any) -> dict[str, Any]:
    return {"digest": digest_of(content), "size_bytes": len(content), "format": "raw", **more}


def definition(xml: str = XML, **more: Any) -> dict[str, Any]:
    return {"domain_xml": xml, "disks": {"vda": disk()}, **more}


@pytest.fixture
def bob(user: Api, issue: Issue) -> Api:
    return user.bearing(issue("bob", "queue.read:/bob queue.modify:/bob queue.submit:/bob file.write:/bob"))


async def upload(user: Api, *images: bytes) -> None:
    for image in images:
        await user.ok("PUT", f"/v1/images/{digest_of(image)}", data=image)


def has_bytes(folder: Path, image: bytes) -> bool:
    name = digest_of(image).removeprefix("sha256:")
    return (folder / "data/files/images" / name[:2] / name).exists()


async def test_an_image_that_somebody_else_serves_is_named_and_not_uploaded(user: Api, launcher: Api) -> None:
    url = "https://images.example/debian.raw?version=12"

    await user.ok("PUT", MACHINE, json=definition(disks={"vda": disk(url=url)}))
    await user.ok("PUT", "/v1/streams/alice/render", json={"machine": "m", "run": "/opt/app/run"})
    await user.ok("POST", "/v1/streams/alice/render/items", json=[{}])

    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    assert dispatched["disks"]["vda"] == disk(url=url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://images.example/a.raw", "plain http"),
        ("ftp://images.example/a.raw", "no https: address"),
        ("https:///a.raw", "no address"),
        ("https://alice:secret@images.example/a.raw", "a user or password"),
        ("https://images.example/a b.raw", "percent-encoded"),
        (f"https://images.example/{'a' * 9_000}", "longer than"),
    ],
)
async def test_an_image_is_fetched_from_nowhere_but_https(user: Api, url: str, reason: str) -> None:
    answer = await user.call("PUT", MACHINE, json=definition(disks={"vda": disk(url=url)}))

    assert answer.code == "bad_request"
    assert answer.json["detail"].startswith("disk vda: ")
    assert reason in answer.json["detail"]


async def test_uefi_variables_travel_with_the_machine(user: Api, launcher: Api) -> None:
    await upload(user, IMAGE, NVRAM)

    view = await user.ok("PUT", MACHINE, json=definition(UEFI, nvram=disk(NVRAM)))
    await user.ok("PUT", "/v1/streams/alice/render", json={"machine": "m", "run": "/opt/app/run"})
    await user.ok("POST", "/v1/streams/alice/render/items", json=[{}])
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())

    assert view["nvram"]["digest"] == dispatched["nvram"]["digest"] == digest_of(NVRAM)
    assert (await user.bearing(None).call("GET", dispatched["nvram"]["url"])).body == NVRAM


@pytest.mark.parametrize(
    ("xml", "nvram", "code", "reason"),
    [
        (XML, disk(NVRAM), "bad_request", "BIOS"),
        (UEFI, disk(NVRAM, url="https://images.example/nvram"), "bad_request", "uploaded, not fetched"),
        (UEFI, {**disk(NVRAM), "size_bytes": (64 << 20) + 1}, "too_large", "at most 67108864 bytes"),
        (UEFI, disk(b"never uploaded"), "image_missing", "nvram names the image"),
    ],
)
async def test_uefi_variables_that_no_vm_could_use_are_refused(
    user: Api, xml: str, nvram: dict[str, Any], code: str, reason: str
) -> None:
    await upload(user, IMAGE, NVRAM)

    answer = await user.call("PUT", MACHINE, json=definition(xml, nvram=nvram))

    assert answer.code == code
    assert reason in answer.json["detail"]


async def test_a_machine_is_removed_with_the_images_that_only_it_needed(user: Api, bob: Api, tmp_path: Path) -> None:
    own, shared, of_both = b"its own", b"named by another machine, too", b"brought by bob, too"
    await upload(user, own, shared, of_both)
    await upload(bob, of_both)
    disks = {"vda": disk(own), "vdb": disk(shared), "vdc": disk(of_both)}
    xml = XML.replace(
        "</devices>",
        "".join(f"<disk><source file='x'/><target dev='{t}'/></disk>" for t in ("vdb", "vdc")) + "</devices>",
    )
    await user.ok("PUT", MACHINE, json={"domain_xml": xml, "disks": disks})
    await user.ok("PUT", "/v1/machines/alice/other", json=definition(disks={"vda": disk(shared)}))

    assert (await user.call("DELETE", MACHINE)).status == 204

    assert (await user.call("GET", MACHINE)).code == "not_found"
    assert [view["machine"] for view in await user.ok("GET", "/v1/machines")] == ["alice/other"]
    assert [has_bytes(tmp_path, image) for image in (own, shared, of_both)] == [False, True, True]
    granted = [(await user.call("HEAD", f"/v1/images/{digest_of(image)}")).status for image in (own, shared, of_both)]
    assert granted == [404, 200, 404]
    assert (await bob.call("GET", f"/v1/images/{digest_of(of_both)}")).body == of_both


async def test_an_image_is_listed_with_its_machines_and_removed_when_none_names_it(
    user: Api, bob: Api, tmp_path: Path
) -> None:
    other = b"of no machine"
    await upload(user, other)
    await add_machine(user)

    listed = {image["digest"]: image for image in await user.ok("GET", "/v1/images")}
    named, unnamed = listed[digest_of(IMAGE)], listed[digest_of(other)]
    assert named == {"digest": digest_of(IMAGE), "size_bytes": len(IMAGE), "machines": ["m"]}
    assert (unnamed["size_bytes"], "machines" in unnamed, "unnamed_since" in unnamed) == (len(other), False, True)
    assert await bob.ok("GET", "/v1/images") == []

    in_use = await user.call("DELETE", f"/v1/images/{digest_of(IMAGE)}")
    assert (in_use.status, in_use.code) == (409, "image_in_use")
    assert "your machine m names" in in_use.json["detail"]
    assert (await bob.call("DELETE", f"/v1/images/{digest_of(other)}")).code == "not_found"
    assert (await user.call("DELETE", f"/v1/images/{digest_of(other)}")).status == 204
    assert [has_bytes(tmp_path, image) for image in (IMAGE, other)] == [True, False]
    assert [image["digest"] for image in await user.ok("GET", "/v1/images")] == [digest_of(IMAGE)]


async def test_a_machine_added_again_goes_on_with_its_numbers(user: Api) -> None:
    await add_machine(user)
    await user.ok("DELETE", MACHINE)
    refused = await user.call("PUT", MACHINE, json=definition())

    await add_machine(user)

    assert refused.code == "image_missing"
    assert (await user.ok("GET", MACHINE))["revision"] == 2
    assert (await user.call("DELETE", "/v1/machines/alice/none")).code == "not_found"


async def test_a_machine_stays_while_a_stream_may_want_it(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    named = await user.call("DELETE", MACHINE)
    await user.ok("POST", f"{stream}/items", json=[{}])
    await add_machine(user, "other")
    await user.ok("PUT", stream, json={"machine": "other", "run": "/opt/app/run"})
    pushed_for = await user.call("DELETE", MACHINE)
    await user.ok("POST", f"{stream}/items", json=[{}])

    assert [named.code, pushed_for.code] == ["machine_in_use", "machine_in_use"]
    assert "your stream render names it" in named.json["detail"]
    assert "unsettled items" in pushed_for.json["detail"]
    assert pushed_for.json["detail"].endswith("wait until they are settled")

    await run_item(launcher)
    # The second item, still unsettled, was pushed for the other machine.
    assert (await user.call("DELETE", MACHINE)).status == 204
    assert (await user.call("DELETE", "/v1/machines/alice/other")).code == "machine_in_use"


async def test_what_was_dispatched_can_be_told_again_after_its_machine_went(user: Api, launcher: Api) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])
    await add_machine(user, "other")
    body = offer()
    first = await launcher.ok("POST", "/v1/dispatch", json=body)
    await user.ok("PUT", stream, json={"machine": "other", "run": "/opt/app/run"})
    assert (await user.call("DELETE", MACHINE)).code == "machine_in_use"
    guest = launcher.bearing((await claim(launcher, first["ticket"])).json["lease"])
    await guest.ok("POST", "/v1/lease/complete", json={"outputs": [], "exit_code": 0})
    assert (await user.call("DELETE", MACHINE)).status == 204

    again = await launcher.ok("POST", "/v1/dispatch", json=body)

    assert (again["dispatch"], again["domain_xml"]) == (first["dispatch"], first["domain_xml"])


async def test_a_machine_is_private_until_it_is_shared(user: Api, bob: Api, launcher: Api) -> None:
    await add_machine(user)
    spec = {"machine": "alice/m", "run": "/opt/app/run"}
    assert (await bob.call("GET", MACHINE)).code == "not_found"
    assert (await bob.call("PUT", "/v1/streams/bob/render", json=spec)).code == "bad_spec"
    assert (await bob.call("PUT", f"{MACHINE}/readers/bob")).code == "not_found"

    shared = await user.ok("PUT", f"{MACHINE}/readers/bob")

    assert shared == {"machine": "alice/m", "readers": ["bob"]} == await user.ok("GET", f"{MACHINE}/readers")
    assert (await bob.ok("GET", MACHINE))["machine"] == "alice/m"
    assert (await bob.call("PUT", MACHINE, json=definition())).status in {403, 404}
    assert (await bob.call("GET", f"/v1/images/{digest_of(IMAGE)}")).code == "not_found"
    await bob.ok("PUT", "/v1/streams/bob/render", json=spec)
    await bob.ok("POST", "/v1/streams/bob/render/items", json=[{}])
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    assert (dispatched["item"], dispatched["machine"]) == ("bob/render/1", "alice/m")


async def test_a_share_that_was_taken_back_lets_nothing_more_run(user: Api, bob: Api, launcher: Api) -> None:
    await add_machine(user)
    await user.ok("PUT", f"{MACHINE}/readers/bob")
    await bob.ok("PUT", "/v1/streams/bob/render", json={"machine": "alice/m", "run": "/opt/app/run"})
    await bob.ok("POST", "/v1/streams/bob/render/items", json=[{}])
    in_use = await user.call("DELETE", MACHINE)

    assert (await user.ok("DELETE", f"{MACHINE}/readers/bob"))["readers"] == []

    assert in_use.code == "machine_in_use"
    assert "a stream of bob's" in in_use.json["detail"]
    assert (await launcher.call("POST", "/v1/dispatch", json=offer())).status == 204
    pushed = await bob.call("POST", "/v1/streams/bob/render/items", json=[{}])
    assert pushed.code == "bad_spec"
    assert "not shared with bob" in pushed.json["detail"]
    assert "no longer shared" in (await bob.ok("GET", "/v1/streams/bob/render/items/1"))["waits"]["sentence"]
    # Bob's items cannot run, so they do not keep what is alice's.
    assert (await user.call("DELETE", MACHINE)).status == 204


async def test_a_share_is_refused_where_it_makes_no_sense(user: Api) -> None:
    await add_machine(user)

    answers = [
        await user.call("PUT", f"{MACHINE}/readers/alice"),
        await user.call("PUT", f"{MACHINE}/readers/-"),
        await user.call("PUT", "/v1/machines/alice/none/readers/bob"),
    ]

    assert [answer.code for answer in answers] == ["bad_request", "bad_request", "not_found"]
