"""Bodies that are received past aiohttp's parser, through TLS."""

import random
import ssl

import pytest

from broker.http import bodies
from tests.integration.http.sealed.scene import AUTHORITY
from tests.support.api import Api, digest_of
from tests.support.sockets import dialled, head

PATH = "/v1/files/alice/large"
CONTENT = random.Random(1).randbytes(16_777_216 + 12_345)
MIB = 1_048_576


@pytest.fixture
def context() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=AUTHORITY.pem.decode())


def head_of(user: Api) -> bytes:
    return head("PUT", PATH, user.token, Content_Length=str(len(CONTENT)))


async def test_one_is_kept_whole_by_a_client_of_ours(user: Api) -> None:
    put = await user.call("PUT", PATH, data=CONTENT)

    assert (put.status, put.headers.get("Connection"), put.json["digest"]) == (201, "close", digest_of(CONTENT))
    assert (await user.call("GET", PATH)).body == CONTENT


@pytest.mark.parametrize("first_bytes", [0, 1, 300_000, 5 * MIB])
async def test_it_is_kept_whole_however_much_of_it_comes_with_its_head(
    user: Api, context: ssl.SSLContext, first_bytes: int
) -> None:
    async with dialled(user.url, context) as line:
        await line.send(head_of(user) + CONTENT[:first_bytes])
        await line.send(CONTENT[first_bytes:] + head("DELETE", PATH, user.token))
        answer = await line.answer()
        rest = await line.rest()

    assert (answer.status, answer.headers["connection"], rest) == (201, "close", b"")
    assert digest_of(CONTENT) in answer.body.decode()
    assert (await user.call("GET", PATH)).body == CONTENT


async def test_one_that_is_cut_leaves_nothing(user: Api, context: ssl.SSLContext) -> None:
    async with dialled(user.url, context) as line:
        await line.send(head_of(user) + CONTENT[: 9 * MIB])

    assert (await user.call("GET", PATH)).status == 404
    assert (await user.call("PUT", PATH, data=CONTENT)).status == 201


async def test_a_sender_that_keeps_no_pace_is_cut_off(
    user: Api, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "PATIENCE_S", 0.3)
    async with dialled(user.url, context) as line:
        await line.send(head_of(user) + CONTENT[: 3 * MIB])
        answer = await line.answer()

    assert (answer.status, answer.code, answer.headers["connection"]) == (408, "too_slow", "close")
