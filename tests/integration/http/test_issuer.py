"""The broker as an issuer, judged by the reference implementation of SciTokens: over TLS, by what it publishes."""

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.app import running_broker
from broker.auth.rotation import rotate
from broker.settings import load_settings
from tests.support.api import Api
from tests.support.authority import Authority
from tests.support.grid import free_port

_JUDGE = """
import json, sys
import scitokens

# The library wants public names; insecure=True lets it ask localhost, over verified TLS all the same.
token = scitokens.SciToken.deserialize(sys.stdin.read(), insecure=True)
enforcer = scitokens.Enforcer(sys.argv[1], audience=sys.argv[1])
# It is of SciTokens' own profile, and wants to be told of the claims of another: WLCG's version, and what we add.
enforcer.add_validator("wlcg.ver", lambda version: version == "1.0")
enforcer.add_validator("vmbroker_by", lambda ids: isinstance(ids, list))
asked = [tuple(each.split(":")) for each in sys.argv[2:]]
allowed = [f"{authority}:{path}" for authority, path in asked if enforcer.test(token, authority, path)]
print(json.dumps({"why": enforcer.last_failure, "allowed": allowed, "claims": dict(token.claims())}))
"""


@pytest.fixture
async def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """An operator's calls to a broker with TLS."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    authority, port = Authority(), free_port()
    authority.server_context(tmp_path, "localhost")
    (tmp_path / "ca.pem").write_text(authority.ca_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    certificate = tmp_path / "localhost.pem"
    settings = load_settings(
        {
            "data": tmp_path / "data",
            "listen": f"127.0.0.1:{port}",
            "public_url": f"https://localhost:{port}",
            "tls_cert": certificate,
            "tls_key": certificate,
            "user": "alice",
        }
    )
    tls = ssl.create_default_context(cadata=authority.ca_pem)
    async with (
        running_broker(settings) as url,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as http,
    ):
        token = json.loads((tmp_path / "config/vmbroker/login.json").read_text())["token"]
        yield Api(http, url, token)


async def judged(token: str, issuer: str, folder: Path, *asked: str) -> dict[str, Any]:
    """Return what the reference implementation makes of a token, in a process of its own: it blocks, and caches."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _JUDGE, issuer, *asked),
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(token.encode())
    assert process.returncode == 0, err.decode()
    found: dict[str, Any] = json.loads(out)
    return found


async def test_the_reference_implementation_finds_our_keys_and_reads_our_scopes(broker: Api, tmp_path: Path) -> None:
    wanted = {"scopes": ["queue.submit:/alice/render", "file.read:/alice"]}
    made = await broker.ok("POST", "/v1/tokens", json=wanted)
    asked = (
        "queue.submit:/alice/render",
        "queue.submit:/alice",
        "file.read:/alice/x",
        "file.read:/alice2",
        "queue.read:/",
    )

    found = await judged(made["token"], broker.url, tmp_path, *asked)
    assert found["allowed"] == ["queue.submit:/alice/render", "file.read:/alice/x"]
    claims = found["claims"]
    assert (claims["iss"], claims["aud"], claims["sub"], claims["wlcg.ver"]) == (broker.url, broker.url, "alice", "1.0")
    assert claims["jti"] == made["id"]


async def test_and_after_a_rotation_too(broker: Api, tmp_path: Path) -> None:
    await judged(str(broker.token), broker.url, tmp_path)
    rotate(tmp_path / "data/keys", at_once=True, now_s=1_000_000_000)
    await broker.bearing(None).ok("GET", "/.well-known/jwks.json")
    made = await broker.ok("POST", "/v1/tokens", json={})

    found = await judged(made["token"], broker.url, tmp_path, "queue.admin:/")
    assert found["allowed"] == ["queue.admin:/"], found["why"]
