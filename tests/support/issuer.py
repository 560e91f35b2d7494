"""An institution's issuer, small and real: over TLS on loopback, with a key that can change."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from broker.client.origins import Origin
from tests.support.authority import Authority

CONFIGURATION = "/.well-known/openid-configuration"
SERVER = "/.well-known/oauth-authorization-server"
KEYS = "/jwks"


class Issuer:
    """Signs with `key`, publishes `published`; what it is asked is counted, and how it answers can be changed.

    Attributes:
        answers: by path, what is answered in the place of what is right: a status, or a document.
        asked: how often each path was asked for.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.key = ECKey.generate_key("P-256", {"kid": "first"})
        self.published = KeySet([self.key])
        self.answers: dict[str, int | dict[str, Any]] = {}
        self.asked: Counter[str] = Counter()

    @property
    def origin(self) -> Origin:
        return Origin.parse(self.url)

    @property
    def description(self) -> dict[str, Any]:
        return {"issuer": self.url, "jwks_uri": f"{self.url}{KEYS}", "scopes_supported": ["openid"]}

    def change_key(self, kid: str) -> None:
        """Sign with a new key, and publish it beside the old ones."""
        self.key = ECKey.generate_key("P-256", {"kid": kid})
        self.published = KeySet([*self.published.keys, self.key])

    def sign(self, **claims: Any) -> str:
        """Return a token with these claims, good for ten minutes unless they say otherwise."""
        now_s = int(time.time())
        whole = {"iss": self.url, "nbf": now_s, "iat": now_s, "exp": now_s + 600, **claims}
        header = {"alg": "ES256", "kid": self.key.kid}
        return jwt.encode(header, whole, self.key, algorithms=["ES256"])

    async def answer(self, request: web.Request) -> web.Response:
        path = request.path
        self.asked[path] += 1
        right = {CONFIGURATION: self.description, KEYS: self.published.as_dict(private=False)}
        document = self.answers.get(path, right.get(path, 404))
        if isinstance(document, int):
            return web.Response(status=document)
        return web.json_response(document)


@asynccontextmanager
async def running_issuer(authority: Authority, folder: Path) -> AsyncIterator[Issuer]:
    """Have an issuer at `https://localhost:PORT` for the block."""
    app = web.Application()
    server = TestServer(app, host="localhost", scheme="https")
    made: list[Issuer] = []

    async def answer(request: web.Request) -> web.Response:
        return await made[0].answer(request)

    app.router.add_get("/{path:.*}", answer)
    await server.start_server(ssl=authority.server_context(folder, "localhost"))
    made.append(Issuer(f"https://localhost:{server.port}"))
    try:
        yield made[0]
    finally:
        await server.close()
