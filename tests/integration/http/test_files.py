from pathlib import Path

import pytest

from broker.domain.paths import FilePath
from broker.files.user_files import StoredFile, UserFiles
from tests.support.api import Api, add_stream, claim, digest_field, digest_of, offer
from tests.support.sockets import dialled, head

FILE = "/v1/files/alice/in/frame%201.txt"


async def test_a_file_comes_back_as_it_was_put(user: Api) -> None:
    put = await user.call("PUT", FILE, data=b"0123456789", headers={"Repr-Digest": digest_field(b"0123456789")})

    got = await user.call("GET", FILE)

    assert put.status == 201
    assert put.json == {
        "file": "file:alice/in/frame 1.txt",
        "size_bytes": 10,
        "digest": digest_of(b"0123456789"),
        "url": f"{user.url}{FILE}",
    }
    assert (got.status, got.body) == (200, b"0123456789")
    assert got.headers["Repr-Digest"] == digest_field(b"0123456789")
    assert got.headers["Content-Disposition"] == "attachment; filename*=UTF-8''frame%201.txt"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    head = await user.call("HEAD", FILE)
    assert (head.headers["Content-Length"], head.body) == ("10", b"")


async def test_ranges_and_etags_are_understood(user: Api) -> None:
    await user.ok("PUT", FILE, data=b"0123456789")

    part = await user.call("GET", FILE, headers={"Range": "bytes=3-5"})

    assert (part.status, part.body, part.headers["Content-Range"]) == (206, b"345", "bytes 3-5/10")
    assert (await user.call("GET", FILE, headers={"Range": "bytes=10-"})).code == "range_not_satisfiable"
    assert (await user.call("GET", FILE, headers={"Range": "bytes=-20"})).body == b"0123456789"
    assert (await user.call("GET", FILE, headers={"If-None-Match": part.headers["ETag"]})).status == 304


@pytest.mark.parametrize("wanted", ["bytes=0-", "bytes=-1"])
async def test_of_an_empty_file_there_is_no_range(user: Api, wanted: str) -> None:
    await user.ok("PUT", FILE, data=b"")
    assert (await user.call("GET", FILE, headers={"Range": wanted})).code == "range_not_satisfiable"


async def test_bytes_that_do_not_match_their_digest_are_not_kept(user: Api) -> None:
    for header in ("Repr-Digest", "Content-Digest"):
        answer = await user.call("PUT", FILE, data=b"other", headers={header: digest_field(b"announced")})
        assert (answer.status, answer.code) == (422, "digest_mismatch")
    assert (await user.call("PUT", FILE, data=b"x", headers={"Repr-Digest": "sha-256=nonsense"})).code == "bad_request"
    assert (await user.call("GET", FILE)).code == "not_found"


async def test_create_only_replaces_nothing_and_forgives_a_retry(user: Api) -> None:
    create = {"If-None-Match": "*"}
    assert (await user.call("PUT", FILE, data=b"first", headers=create)).status == 201

    assert (await user.call("PUT", FILE, data=b"first", headers=create)).status == 200
    assert (await user.call("PUT", FILE, data=b"second", headers=create)).code == "already_exists"

    assert (await user.call("GET", FILE)).body == b"first"
    assert (await user.call("PUT", FILE, data=b"second")).status == 200
    assert (await user.call("GET", FILE)).body == b"second"


async def test_a_file_that_is_replaced_while_it_is_asked_for_is_sent_as_it_is_then(
    user: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await user.ok("PUT", FILE, data=b"new")
    real, found = UserFiles.find, []

    async def find(files: UserFiles, path: FilePath) -> StoredFile | None:
        stored = await real(files, path)
        assert stored is not None
        found.append(stored)
        return stored if len(found) > 1 else stored._replace(location=Path("/removed/meanwhile"))

    monkeypatch.setattr(UserFiles, "find", find)

    assert (await user.call("GET", FILE)).body == b"new"


async def test_a_deleted_file_is_gone(user: Api) -> None:
    await user.ok("PUT", FILE, data=b"x")

    assert (await user.call("DELETE", FILE)).status == 204

    assert (await user.call("DELETE", FILE)).code == "not_found"
    assert (await user.call("GET", FILE)).code == "not_found"


@pytest.mark.parametrize(
    "path", ["../etc/passwd", "%2e%2e/bob/x", "a%2Fb", "a//b", "a/./b", "a%5Cb", "a%00b", "a%0Ab", "a/", "x" * 300]
)
async def test_a_path_that_could_mean_something_else_is_refused(user: Api, path: str) -> None:
    answer = await user.call("PUT", f"/v1/files/alice/{path}", data=b"x")

    assert answer.code in {"bad_request", "not_found"}, answer
    assert answer.status in {400, 404}


async def test_a_name_may_be_a_file_and_a_folder_at_once(user: Api) -> None:
    await user.ok("PUT", "/v1/files/alice/a", data=b"file")
    await user.ok("PUT", "/v1/files/alice/a/b", data=b"below")

    assert (await user.call("GET", "/v1/files/alice/a")).body == b"file"
    assert (await user.call("GET", "/v1/files/alice/a/b")).body == b"below"


async def test_a_large_file_streams_in_and_out(user: Api) -> None:
    content = bytes(range(256)) * 40_000

    await user.ok("PUT", FILE, data=content, headers={"Content-Digest": digest_field(content)})

    assert (await user.call("GET", FILE)).body == content


async def _room(user: Api) -> int:
    return int((await user.ok("GET", "/v1/users/alice"))["file_bytes"])


async def test_what_does_not_fit_is_refused_before_a_byte_is_read_and_leaves_nothing(user: Api) -> None:
    await user.ok("PUT", "/v1/users/alice", json={"most_file_bytes": 10_000})
    await user.ok("PUT", FILE, data=b"x" * 1_000)

    async with dialled(user.url) as line:
        await line.send(head("PUT", "/v1/files/alice/large", user.token, Content_Length="5000"))
        assert (await line.answer()).code == "quota_exceeded"

    assert (await user.call("GET", "/v1/files/alice/large")).code == "not_found"
    assert await _room(user) == 4_096 + 1_000


async def test_what_turns_out_not_to_fit_is_refused_on_its_way_and_leaves_nothing(user: Api) -> None:
    await user.ok("PUT", "/v1/users/alice", json={"most_file_bytes": 10_000})
    body = b"".join(b"3e8\r\n" + b"x" * 1_000 + b"\r\n" for _ in range(6)) + b"0\r\n\r\n"

    async with dialled(user.url) as line:
        await line.send(head("PUT", "/v1/files/alice/large", user.token, Transfer_Encoding="chunked") + body)
        assert (await line.answer()).code == "quota_exceeded"

    assert (await user.call("GET", "/v1/files/alice/large")).code == "not_found"
    assert await _room(user) == 0


async def test_a_file_that_goes_gives_its_room_back(user: Api) -> None:
    await user.ok("PUT", "/v1/users/alice", json={"most_file_bytes": 20_000})
    await user.ok("PUT", FILE, data=b"x" * 5_000)
    await user.ok("PUT", FILE, data=b"y" * 3_000)
    assert await _room(user) == 4_096 + 3_000

    await user.ok("DELETE", FILE)

    assert await _room(user) == 0


async def test_an_output_that_does_not_fit_is_refused_and_its_retry_is_not_once_it_is_there(
    user: Api, launcher: Api
) -> None:
    stream = await add_stream(user)
    await user.ok("POST", f"{stream}/items", json=[{}])
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    guest = launcher.bearing((await claim(launcher, dispatched["ticket"])).json["lease"])
    signed = (await guest.ok("POST", "/v1/lease/urls", json={"outputs": ["out.txt"]}))["outputs"]["out.txt"]
    headers = {**signed["headers"], "Repr-Digest": digest_field(b"result")}

    await user.ok("PUT", "/v1/users/alice", json={"most_file_bytes": 4_101})
    refused = await guest.bearing(None).call("PUT", signed["url"], data=b"result", headers=headers)
    assert (refused.status, refused.code) == (429, "quota_exceeded")
    assert "alice's room for files is full" in refused.json["detail"]

    await user.ok("PUT", "/v1/users/alice", json={"most_file_bytes": 4_102})
    for status in (201, 200):
        again = await guest.bearing(None).call("PUT", signed["url"], data=b"result", headers=headers)
        assert again.status == status
