"""Uploads in parts: by an independent tus client, and by requests that no good client would send."""

import asyncio
import base64
import hashlib
import io
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from tusclient.client import TusClient
from yarl import URL

from broker.domain.errors import Unavailable
from broker.http import bodies
from broker.store import Store
from broker.wire.problems import ProblemCode
from tests.support.api import Answer, Api, add_machine, digest_of
from tests.support.waiting import until

CONTENT = secrets.token_bytes(5_000_000)
DIGEST = digest_of(CONTENT)
SMALL = b"the bytes of an image, some of them"
TUS = {"Tus-Resumable": "1.0.0"}
Issue = Callable[..., str]
Start = Callable[[], AbstractAsyncContextManager[tuple[Api, Api]]]


def metadata(digest: str, *more: str) -> dict[str, str]:
    return {"Upload-Metadata": ",".join([f"digest {base64.b64encode(digest.encode()).decode()}", *more])}


async def begin(user: Api, content: bytes = SMALL, *more: str, digest: str | None = None) -> str:
    headers = {**TUS, "Upload-Length": str(len(content)), **metadata(digest or digest_of(content), *more)}
    answer = await user.call("POST", "/v1/uploads", headers=headers)
    assert answer.status == 201, answer
    return answer.headers["Location"]


async def patch(user: Api, upload: str, offset: int, content: bytes, **headers: str) -> Answer:
    sent = {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset), **headers}
    return await user.call("PATCH", upload, data=content, headers=sent)


async def offset(user: Api, upload: str) -> int:
    answer = await user.call("HEAD", upload, headers=TUS)
    assert answer.status == 200, answer
    return int(answer.headers["Upload-Offset"])


class cut_patch:  # noqa: N801 # reads as what it is
    """A PATCH of which only `sent` arrives, out of `announced` bytes; the connection breaks at the block's end."""

    def __init__(self, user: Api, upload: str, sent: bytes, announced: int) -> None:
        lines = {
            **TUS,
            "Host": "broker",
            "Authorization": f"Bearer {user.token}",
            "Content-Type": "application/offset+octet-stream",
            "Upload-Offset": "0",
            "Content-Length": str(announced),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._request = f"PATCH {upload} HTTP/1.1\r\n{head}\r\n".encode() + sent
        self._url = URL(user.url)

    async def __aenter__(self) -> asyncio.StreamReader:
        reader, self._writer = await asyncio.open_connection(self._url.host, self._url.port)
        self._writer.write(self._request)
        await self._writer.drain()
        return reader

    async def __aexit__(self, *error: object) -> None:
        self._writer.transport.abort()


def tus_client(user: Api) -> TusClient:
    return TusClient(f"{user.url}/v1/uploads", headers={"Authorization": f"Bearer {user.token}"})


def uploader(user: Api, **more: Any) -> Any:
    """Return the client's upload of the content; from a stream, since it leaves files open."""
    return tus_client(user).uploader(
        file_stream=io.BytesIO(CONTENT), metadata={"digest": DIGEST, "filename": "disk.qcow2"}, **more
    )


@pytest.mark.parametrize("more", [{}, {"chunk_size": 700_000, "upload_checksum": True}], ids=["whole", "checked parts"])
async def test_an_independent_client_uploads_an_image(user: Api, more: dict[str, Any]) -> None:
    await asyncio.to_thread(uploader(user, **more).upload)

    assert (await user.call("GET", f"/v1/images/{DIGEST}")).body == CONTENT
    assert await user.ok("GET", "/v1/uploads") == []


async def test_an_independent_client_goes_on_after_the_broker_was_started_anew(start: Start) -> None:
    async with start() as (user, _):
        first = uploader(user, chunk_size=1_000_000)
        await asyncio.to_thread(first.upload, stop_at=3_000_000)
        place = URL(first.url).path
    async with start() as (user, _):
        url = f"{user.url}{place}"
        second = await asyncio.to_thread(uploader, user, chunk_size=1_000_000, url=url)
        assert second.offset == 3_000_000
        await asyncio.to_thread(second.upload)

        assert (await user.call("GET", f"/v1/images/{DIGEST}")).body == CONTENT


async def test_what_is_spoken_can_be_asked(user: Api) -> None:
    answer = await user.call("OPTIONS", "/v1/uploads")

    assert answer.status == 204
    told = {name: answer.headers[f"Tus-{name}"] for name in ("Resumable", "Version", "Extension", "Checksum-Algorithm")}
    assert told == {
        "Resumable": "1.0.0",
        "Version": "1.0.0",
        "Extension": "creation,checksum,termination,concatenation",
        "Checksum-Algorithm": "sha1,sha256",
    }
    assert int(answer.headers["Tus-Max-Size"]) > 1 << 30


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Tus-Resumable": "0.2.2"}, "tus_version"),
        ({"Upload-Length": "many"}, "bad_request"),
        ({"Upload-Length": "0"}, "bad_request"),
        ({"Upload-Length": str(1 << 40)}, "too_large"),
        ({"Upload-Metadata": "filename ZGlzaw=="}, "bad_request"),
        ({"Upload-Metadata": "digest !!"}, "bad_request"),
        (metadata("md5:1234"), "bad_request"),
        ({"Upload-Defer-Length": "1"}, "bad_request"),
    ],
)
async def test_an_upload_that_cannot_end_well_is_not_begun(user: Api, headers: dict[str, str], code: str) -> None:
    sent = {**TUS, "Upload-Length": "10", **metadata(DIGEST), **headers}

    answer = await user.call("POST", "/v1/uploads", headers=sent)

    assert answer.code == code
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert await user.ok("GET", "/v1/uploads") == []


async def test_bytes_are_taken_at_the_offset_and_nowhere_else(user: Api) -> None:
    upload = await begin(user)
    assert (await patch(user, upload, 0, SMALL[:10])).headers["Upload-Offset"] == "10"

    refused = await patch(user, upload, 9, SMALL[9:])
    beyond = await patch(user, upload, 10, SMALL[10:] + b"!")
    wrong_type = await patch(user, upload, 10, SMALL[10:], **{"Content-Type": "application/octet-stream"})

    assert [refused.code, beyond.code, wrong_type.code] == ["offset_differs", "too_large", "media_type_refused"]
    assert [refused.status, beyond.status, wrong_type.status] == [409, 413, 415]
    assert await offset(user, upload) == 10
    assert (await patch(user, upload, 10, SMALL[10:])).status == 204


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_of_bytes_with_a_wrong_checksum_nothing_is_kept(user: Api, algorithm: str) -> None:
    upload = await begin(user)
    right = base64.b64encode(hashlib.new(algorithm, SMALL[:20]).digest()).decode()

    wrong = await patch(user, upload, 0, SMALL[:19] + b"?", **{"Upload-Checksum": f"{algorithm} {right}"})
    assert (wrong.status, wrong.code, await offset(user, upload)) == (460, "checksum_mismatch", 0)
    assert (await patch(user, upload, 0, SMALL[:20], **{"Upload-Checksum": "md5 AAAA"})).code == "bad_request"

    assert (await patch(user, upload, 0, SMALL[:20], **{"Upload-Checksum": f"{algorithm} {right}"})).status == 204
    assert (await patch(user, upload, 20, SMALL[20:])).status == 204
    assert (await user.call("GET", f"/v1/images/{digest_of(SMALL)}")).body == SMALL


async def test_bytes_before_a_cut_count_and_meanwhile_nobody_else_adds_any(user: Api) -> None:
    upload = await begin(user, CONTENT)
    sent = CONTENT[: 3 * bodies.PIECE_BYTES]

    async def is_written() -> bool:
        return await offset(user, upload) >= bodies.PIECE_BYTES

    async with cut_patch(user, upload, sent, len(CONTENT)):
        await until(is_written, "some bytes are written")
        second = await patch(user, upload, len(sent), CONTENT[len(sent) :])
        assert (second.status, second.code) == (423, "upload_busy")
        assert (await user.call("DELETE", upload, headers=TUS)).code == "upload_busy"

    async def is_taken() -> bool:
        return (await patch(user, upload, len(sent), CONTENT[len(sent) :])).status == 204

    await until(is_taken, "the cut connection let go of the upload")
    assert (await user.call("GET", f"/v1/images/{DIGEST}")).body == CONTENT


async def test_a_sender_that_stops_is_cut_off_and_what_came_is_kept(user: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.2)
    upload = await begin(user)

    async with cut_patch(user, upload, SMALL[:10], len(SMALL)) as reader:
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode()

    assert head.startswith("HTTP/1.1 408")
    assert await offset(user, upload) == 10


async def test_bytes_of_another_digest_become_no_image(user: Api) -> None:
    upload = await begin(user, digest=DIGEST)

    answer = await patch(user, upload, 0, SMALL)

    assert (answer.status, answer.code) == (422, "digest_mismatch")
    assert (await user.call("HEAD", upload, headers=TUS)).status == 404
    assert (await user.call("GET", f"/v1/images/{DIGEST}")).code == "not_found"


async def test_an_upload_is_its_users_alone(user: Api, issue: Issue) -> None:
    upload = await begin(user)
    bob = user.bearing(issue("bob", "queue.read:/bob queue.modify:/bob"))

    answers = [await bob.call("HEAD", upload, headers=TUS), await bob.call("DELETE", upload, headers=TUS)]
    answers.append(await patch(bob, upload, 0, SMALL))

    assert [answer.status for answer in answers] == [404, 404, 404]
    assert await bob.ok("GET", "/v1/uploads") == []
    assert (await patch(user, upload, 0, SMALL)).status == 204
    assert (await bob.call("GET", f"/v1/images/{digest_of(SMALL)}")).code == "not_found"


async def test_an_image_begun_to_be_resumed_is_gone_on_with_and_others_start_anew(user: Api) -> None:
    upload = await begin(user, SMALL, "resume")
    await patch(user, upload, 0, SMALL[:10])

    assert await begin(user, SMALL, "resume") == upload
    other = await begin(user, SMALL)
    assert (other != upload, await offset(user, other)) == (True, 0)
    listed = await user.ok("GET", "/v1/uploads")
    assert sorted((each["offset_bytes"], each["size_bytes"], each["digest"]) for each in listed) == [
        (0, len(SMALL), digest_of(SMALL)),
        (10, len(SMALL), digest_of(SMALL)),
    ]


async def test_the_end_of_an_upload_can_be_told_again_when_its_answer_was_lost(user: Api) -> None:
    upload = await begin(user, SMALL, "resume")
    await patch(user, upload, 0, SMALL)

    assert await offset(user, upload) == len(SMALL)
    assert (await patch(user, upload, len(SMALL), b"")).status == 204
    assert await begin(user, SMALL, "resume") == upload


async def test_an_upload_that_was_ended_is_gone(user: Api) -> None:
    upload = await begin(user)

    ended = await user.call("POST", upload, headers={**TUS, "X-HTTP-Method-Override": "DELETE"})

    assert ended.status == 204
    assert (await user.call("DELETE", upload, headers=TUS)).code == "not_found"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let the store be away whenever an image is to be granted; undo it to have it back."""

    async def away(*_: object) -> None:
        raise Unavailable(ProblemCode.STORE_UNAVAILABLE, "the store is away")

    monkeypatch.setattr(Store, "grant_image", away)
    return monkeypatch


async def test_an_upload_whose_grant_failed_is_finished_by_an_empty_patch(
    user: Api, failing: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    upload = await begin(user)
    refused = [await patch(user, upload, 0, SMALL), await patch(user, upload, len(SMALL), b"")]
    assert [answer.code for answer in refused] == ["store_unavailable", "store_unavailable"]
    [part] = tmp_path.rglob("*.part")
    assert part.stat().st_mode & 0o777 == 0o600

    failing.undo()

    assert (await patch(user, upload, len(SMALL), b"")).status == 204
    assert (await user.call("GET", f"/v1/images/{digest_of(SMALL)}")).body == SMALL


@pytest.mark.parametrize("in_parts", [True, False])
async def test_bytes_whose_grant_failed_are_not_kept_for_ever(
    user: Api, failing: pytest.MonkeyPatch, tmp_path: Path, in_parts: bool
) -> None:
    if in_parts:
        upload = await begin(user)
        await patch(user, upload, 0, SMALL)
        assert (await user.call("DELETE", upload, headers=TUS)).status == 204
    else:
        await user.call("PUT", f"/v1/images/{digest_of(SMALL)}", data=SMALL)
    name = digest_of(SMALL).removeprefix("sha256:")
    assert list(tmp_path.rglob(name))

    failing.undo()
    await add_machine(user)
    await user.ok("DELETE", "/v1/machines/alice/m")  # looks for whatever is nobody's

    assert not list(tmp_path.rglob(name))


async def test_unfinished_uploads_of_a_user_are_bounded(user: Api) -> None:
    for number in range(16):
        await begin(user, SMALL + bytes([number]))

    headers = {**TUS, "Upload-Length": "10", **metadata(DIGEST)}
    answer = await user.call("POST", "/v1/uploads", headers=headers)

    assert answer.code == "too_many_uploads"
    assert "16 unfinished uploads" in answer.json["detail"]


async def test_what_uploads_announced_counts_before_it_comes(user: Api) -> None:
    await user.ok("PUT", "/v1/users/alice", json={"most_image_bytes": len(SMALL) + 10})
    upload = await begin(user)

    headers = {**TUS, "Upload-Length": "11", **metadata(digest_of(b"11 of bytes"))}
    refused = await user.call("POST", "/v1/uploads", headers=headers)
    put = await user.call("PUT", f"/v1/images/{digest_of(b'11 of bytes')}", data=b"11 of bytes")

    assert [(each.status, each.code) for each in (refused, put)] == [(429, "quota_exceeded")] * 2
    assert (await patch(user, upload, 0, SMALL)).status == 204
    await user.ok("PUT", f"/v1/images/{digest_of(b'10 of them')}", data=b"10 of them")


async def test_an_upload_that_there_is_no_room_for_any_more_leaves_nothing(user: Api, tmp_path: Path) -> None:
    upload = await begin(user)
    await user.ok("PUT", "/v1/users/alice", json={"most_image_bytes": 3})

    refused = await patch(user, upload, 0, SMALL)

    assert (refused.status, refused.code) == (429, "quota_exceeded")
    assert (await user.call("HEAD", upload, headers=TUS)).status == 404
    assert list(tmp_path.rglob(digest_of(SMALL).removeprefix("sha256:"))) == []
    assert list(tmp_path.rglob("*.part")) == []
