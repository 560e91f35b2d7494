"""The device flow against an institution that answers as no good one does: a small server of the test's own."""

import json
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from broker.client.device_flow import DeviceFlow, LoginFailed, Prompt
from tests.support.authority import Authority

CONFIGURATION = "/.well-known/openid-configuration"
CODE = "/code"
TOKENS = "/tokens"
ESCAPE = "\x1b]0;owned\x07\x1b[2J"

Answer = tuple[int, Any]
"""A status and what is sent with it: a document, or bytes as they are."""


def refused(error: str, status: int = 400) -> Answer:
    return status, {"error": error, "error_description": ESCAPE}


class Institution:
    """Attributes: `answers` by path, used up to the last one, which stays; `None` breaks the connection."""

    def __init__(self, url: str, authority: Authority) -> None:
        self.url = url
        self.authority = authority
        self.asked: list[str] = []
        self.slept: list[float] = []
        self.shown: list[Prompt] = []
        self.configuration = {
            "issuer": url,
            "token_endpoint": f"{url}{TOKENS}",
            "device_authorization_endpoint": f"{url}{CODE}",
        }
        self.prompt: dict[str, Any] = {
            "device_code": "d",
            "user_code": "ABCD-EFGH",
            "verification_uri": f"{url}/device",
            "expires_in": 600,
        }
        self.answers: dict[str, deque[Answer | None]] = {
            CONFIGURATION: deque([(200, self.configuration)]),
            CODE: deque([(200, self.prompt)]),
            TOKENS: deque([(200, {"id_token": "who.it.was"})]),
        }

    def will(self, path: str, *answers: Answer | None) -> None:
        self.answers[path] = deque(answers)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        waiting = self.answers[request.path]
        answer = waiting.popleft() if len(waiting) > 1 else waiting[0]
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        status, content = answer
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return web.Response(status=status, body=body, headers={"Location": f"{self.url}{TOKENS}"})

    async def log_in(self, ca_pem: str | None = None) -> str:
        """Log in there, by a clock that stands still but for the sleeping."""

        async def sleep(time_s: float) -> None:
            self.slept.append(time_s)

        flow = DeviceFlow(self.url, "us", ca_pem or self.authority.ca_pem, sleep, lambda: sum(self.slept))
        return await flow.id_token(self.shown.append)

    async def failure(self) -> str:
        """Log in there, which must fail by a sentence that does nothing to a terminal; return it."""
        with pytest.raises(LoginFailed) as failed:
            await self.log_in()
        sentence = str(failed.value)
        assert sentence.isprintable()
        assert len(sentence) < 500
        return sentence


@pytest.fixture
async def institution(tmp_path: Path) -> AsyncIterator[Institution]:
    app, authority = web.Application(), Authority()
    made: list[Institution] = []

    async def answer(request: web.Request) -> web.Response:
        return await made[0].answer(request)

    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app, host="localhost", scheme="https")
    await server.start_server(ssl=authority.server_context(tmp_path, "localhost"))
    made.append(Institution(f"https://localhost:{server.port}", authority))
    yield made[0]
    await server.close()


async def test_who_used_the_code_is_named(institution: Institution) -> None:
    institution.will(TOKENS, refused("authorization_pending"), (200, {"id_token": "who.it.was"}))

    assert await institution.log_in() == "who.it.was"
    assert institution.slept == [5, 5]
    assert [prompt.user_code for prompt in institution.shown] == ["ABCD-EFGH"]


async def test_it_asks_less_often_when_told_to_slow_down(institution: Institution) -> None:
    institution.prompt["interval"] = 2
    slow, pending = refused("slow_down"), refused("authorization_pending")
    institution.will(TOKENS, slow, pending, slow, (200, {"id_token": "t"}))

    await institution.log_in()
    assert institution.slept == [2, 7, 7, 12]


@pytest.mark.parametrize(("asked", "kept"), [(0, 1), (-5, 1), (1e9, 60)])
async def test_the_interval_has_bounds(institution: Institution, asked: float, kept: float) -> None:
    institution.prompt["interval"] = asked

    await institution.log_in()
    assert institution.slept == [kept]


@pytest.mark.parametrize("away", [None, (502, b"<html>"), (429, b"")])
async def test_an_institution_that_is_away_for_a_moment_is_asked_again(
    institution: Institution, away: Answer | None
) -> None:
    institution.will(TOKENS, away, away, (200, {"id_token": "t"}))

    assert await institution.log_in() == "t"
    # A connection that broke may have been repeated by the client itself.
    assert institution.slept[:2] == [5, 10]


@pytest.mark.parametrize("last", [refused("authorization_pending"), refused("expired_token"), None, (500, b"")])
async def test_a_code_that_is_not_used_ends_the_waiting(institution: Institution, last: Answer | None) -> None:
    institution.prompt["expires_in"] = 42
    institution.will(TOKENS, last)

    assert "not used in time" in await institution.failure()
    assert sum(institution.slept) <= 42


async def test_nobody_is_waited_for_longer_than_half_an_hour(institution: Institution) -> None:
    institution.prompt["expires_in"] = 1e12
    institution.will(TOKENS, refused("authorization_pending"))

    assert "not used in time" in await institution.failure()
    assert sum(institution.slept) == 1_800


@pytest.mark.parametrize("path", [CONFIGURATION, CODE, TOKENS])
@pytest.mark.parametrize(
    "content",
    [b"<html>", b"", b"\xff", b'{"x":' * 40_000, b"7", ESCAPE.encode()],
    ids=["html", "empty", "no-utf8", "deep", "number", "escape"],
)
async def test_what_is_no_answer_is_a_sentence(institution: Institution, path: str, content: bytes) -> None:
    institution.will(path, (200, content))

    assert "cannot read" in await institution.failure()


@pytest.mark.parametrize("path", [CONFIGURATION, CODE, TOKENS])
async def test_an_answer_that_is_too_large_is_refused(institution: Institution, path: str) -> None:
    institution.will(path, (200, b" " * 300_000))

    assert "more than 262144 bytes" in await institution.failure()


@pytest.mark.parametrize("path", [CONFIGURATION, CODE, TOKENS])
async def test_a_redirect_is_not_followed(institution: Institution, path: str) -> None:
    institution.will(path, (302, b""))

    assert "status 302" in await institution.failure()
    assert institution.asked[-1] == path


async def test_the_configuration_of_another_issuer_is_refused(institution: Institution) -> None:
    institution.configuration["issuer"] = f"https://evil.example/{ESCAPE}"

    assert "another issuer" in await institution.failure()
    assert institution.asked == [CONFIGURATION]


async def test_an_issuer_without_the_flow_is_told(institution: Institution) -> None:
    del institution.configuration["device_authorization_endpoint"]

    assert "one-time code" in await institution.failure()


@pytest.mark.parametrize("name", ["token_endpoint", "device_authorization_endpoint"])
@pytest.mark.parametrize(
    "address", ["http://localhost/x", f"javascript:{ESCAPE}", "", "https://", "http://" + "x" * 2_000]
)
async def test_nothing_is_sent_in_the_clear(institution: Institution, name: str, address: str) -> None:
    institution.configuration[name] = address

    sentence = await institution.failure()
    assert "none with TLS" in sentence or "one-time code" in sentence
    assert TOKENS not in institution.asked


@pytest.mark.parametrize("name", ["verification_uri", "verification_uri_complete"])
@pytest.mark.parametrize("address", ["http://localhost/device", f"data:{ESCAPE}"])
async def test_nobody_is_sent_to_type_a_password_without_tls(institution: Institution, name: str, address: str) -> None:
    institution.prompt[name] = address

    assert "none with TLS" in await institution.failure()
    assert institution.shown == []


@pytest.mark.parametrize(
    ("name", "value"), [("user_code", "x" * 65), ("user_code", ""), ("verification_uri", "https://x/" + "x" * 2_048)]
)
async def test_what_nobody_could_type_is_refused(institution: Institution, name: str, value: str) -> None:
    institution.prompt[name] = value

    assert "cannot read" in await institution.failure()
    assert institution.shown == []


@pytest.mark.parametrize("path", [CODE, TOKENS])
async def test_an_institutions_own_words_are_not_shown(institution: Institution, path: str) -> None:
    institution.will(path, refused(ESCAPE))
    assert "status 400" in await institution.failure()
    institution.will(path, refused("invalid_client", 401))
    assert "invalid_client" in await institution.failure()


async def test_an_answer_that_names_nobody_is_a_sentence(institution: Institution) -> None:
    institution.will(TOKENS, (200, {"access_token": "a"}))

    assert "did not say who you are" in await institution.failure()


async def test_a_denial_ends_the_waiting(institution: Institution) -> None:
    institution.will(TOKENS, refused("access_denied"))

    assert "refused to log in" in await institution.failure()
    assert institution.asked.count(TOKENS) == 1


async def test_a_certificate_of_somebody_else_is_refused(institution: Institution) -> None:
    with pytest.raises(LoginFailed, match="certificate"):
        await institution.log_in(Authority().ca_pem)
    assert institution.asked == []
