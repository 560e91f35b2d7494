"""Files by the protocol that images go up by: in one upload, in parts that are joined, over lines that break."""

import base64
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.client import file_uploads, uploads
from broker.client import files as files_module
from broker.client.errors import ApiError
from broker.client.files import Files, read_content
from broker.client.session import Session
from tests.integration.http.test_image_client import Wire
from tests.integration.http.test_uploads import TUS, begin, offset, patch
from tests.support.api import Api, digest_of

JOINED = "alice/tus/joined"
CONTENT = secrets.token_bytes(6_000_000)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def as_file(path: str, *more: str) -> str:
    return ",".join([f"file {encoded(f'file:{path}')}", *more])


async def join(user: Api, path: str, parts: list[str], digest: str, *more: str) -> int | str:
    headers = {
        **TUS,
        "Upload-Concat": f"final;{' '.join(parts)}",
        "Upload-Metadata": f"digest {encoded(digest)},{as_file(path, *more)},resume",
    }
    answer = await user.call("POST", "/v1/uploads", headers=headers)
    return answer.status if answer.status < 400 else str(answer.code)


async def part(user: Api, content: bytes, path: str, upto: int | None = None) -> str:
    headers = {
        **TUS,
        "Upload-Length": str(len(content)),
        "Upload-Concat": "partial",
        "Upload-Metadata": f"digest {encoded(digest_of(content))},{as_file(path)},resume",
    }
    location = (await user.call("POST", "/v1/uploads", headers=headers)).headers["Location"]
    await patch(user, location, 0, content[:upto])
    return location


async def test_the_last_byte_makes_the_file_and_its_digest_decides(user: Api) -> None:
    upload = await begin(user, b"0123456789", as_file("alice/tus/one", "resume"))
    await patch(user, upload, 0, b"01234")
    assert (await user.call("GET", "/v1/files/alice/tus/one")).status == 404

    assert await begin(user, b"0123456789", as_file("alice/tus/one", "resume")) == upload
    assert (await patch(user, upload, 5, b"56789")).status == 204

    assert (await user.call("GET", "/v1/files/alice/tus/one")).body == b"0123456789"
    wrong = await begin(user, b"0123456789", as_file("alice/tus/two"), digest=digest_of(b"other"))
    assert (await patch(user, wrong, 0, b"0123456789")).code == "digest_mismatch"
    assert (await user.call("GET", "/v1/files/alice/tus/two")).status == 404
    other = await begin(user, b"other", as_file("alice/tus/three", "create-only"))
    await user.ok("PUT", "/v1/files/alice/tus/three", data=b"there before")
    assert (await patch(user, other, 0, b"other")).code == "already_exists"
    assert (await user.call("GET", "/v1/files/alice/tus/three")).body == b"there before"
    assert await user.ok("GET", "/v1/uploads") == []


async def test_parts_are_joined_when_all_are_complete_and_make_what_was_announced(user: Api) -> None:
    first, second = await part(user, b"01234", JOINED), await part(user, b"56789", JOINED, upto=2)
    digest = digest_of(b"0123456789")

    assert await join(user, JOINED, [first, second], digest) == "offset_differs"
    await patch(user, second, 2, b"789")
    assert await join(user, JOINED, [second, "/v1/uploads/" + "0" * 32], digest) == "not_found"
    assert await join(user, JOINED, [first, second], digest) == 201
    assert await join(user, JOINED, [first, second], digest) == 201  # an answer that was lost

    assert (await user.call("GET", "/v1/files/alice/tus/joined")).body == b"0123456789"
    assert await user.ok("GET", "/v1/uploads") == []
    assert await offset(user, await begin(user, b"01234")) == 0  # a part is no image
    parts = [await part(user, b"56789", JOINED), await part(user, b"01234", JOINED)]
    assert await join(user, "alice/tus/turned", parts, digest) == "digest_mismatch"
    assert (await user.call("GET", "/v1/files/alice/tus/turned")).status == 404


async def test_nobody_uploads_what_they_may_not_put(user: Api, issue: Callable[..., str]) -> None:
    mallory = user.bearing(issue("mallory", "queue.modify:/mallory queue.read:/mallory file.write:/mallory"))
    headers = {
        **TUS,
        "Upload-Length": "1",
        "Upload-Metadata": f"digest {encoded(digest_of(b'x'))},{as_file('alice/x')}",
    }

    answer = await mallory.call("POST", "/v1/uploads", headers=headers)
    stolen = await part(user, b"alice's", JOINED)

    assert answer.code == "not_found"
    assert await join(mallory, "mallory/x", [stolen], digest_of(b"alice's")) == "not_found"


async def test_a_large_file_comes_up_and_down_over_lines_that_break(
    user: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "RESUMABLE_BYTES", 1_000)
    monkeypatch.setattr(file_uploads, "PARALLEL_BYTES", 1_000)
    monkeypatch.setattr(uploads, "PART_BYTES", 500_000)
    (tmp_path / "sent").write_bytes(CONTENT)
    content = await read_content(tmp_path / "sent")
    went: list[int] = []
    wire = Wire(user.url, after_bytes=700_000, breaks=6)
    async with wire.open() as url, Session(url, token=user.token) as session:
        view = await Files(session).put_file(tmp_path / "sent", "alice/large", content, went.append, create_only=True)
        again = await Files(session).put_file(tmp_path / "sent", "alice/large", content, create_only=True)
        (tmp_path / "other").write_bytes(CONTENT[::-1])
        with pytest.raises(ApiError, match="already"):
            await Files(session).put_file(
                tmp_path / "other", "alice/large", await read_content(tmp_path / "other"), create_only=True
            )

    assert wire.breaks == 0
    assert sum(went) == len(CONTENT)
    assert wire.bytes < 3 * len(CONTENT)
    assert view == again
    assert (await user.call("GET", "/v1/files/alice/large")).body == CONTENT


async def test_a_file_whose_parts_are_alike_goes_up(user: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "RESUMABLE_BYTES", 1_000)
    monkeypatch.setattr(file_uploads, "PARALLEL_BYTES", 1_000)
    (tmp_path / "zeros").write_bytes(bytes(400_000))

    async with Session(user.url, token=user.token) as session:
        await Files(session).put_file(tmp_path / "zeros", "alice/zeros", await read_content(tmp_path / "zeros"))

    assert (await user.call("GET", "/v1/files/alice/zeros")).body == bytes(400_000)
    assert await user.ok("GET", "/v1/uploads") == []


async def test_an_upload_that_just_fits_is_gone_on_with_and_its_last_answer_told_again(user: Api) -> None:
    content, more = b"x" * 5_000, as_file("alice/tus/fits", "resume")
    await user.ok("PUT", "/v1/users/alice", json={"most_file_bytes": 4_096 + len(content)})
    upload = await begin(user, content, more)
    await patch(user, upload, 0, content[:2_000])

    assert await begin(user, content, more) == upload
    assert (await patch(user, upload, 2_000, content[2_000:])).status == 204
    assert await begin(user, content, more) == upload
    assert (await user.call("GET", "/v1/files/alice/tus/fits")).body == content

    headers = {**TUS, "Upload-Length": "9", "Upload-Metadata": f"digest {encoded(digest_of(b'x'))},{more}"}
    assert (await user.call("POST", "/v1/uploads", headers=headers)).code == "quota_exceeded"
