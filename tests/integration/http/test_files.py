import pytest

from tests.support.api import Api, digest_field, digest_of

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
    assert (await user.call("GET", FILE, headers={"If-None-Match": part.headers["ETag"]})).status == 304


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
