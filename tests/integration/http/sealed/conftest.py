import json
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.app import running_broker
from broker.auth.keys import load_keys
from broker.auth.tokens import Tokens
from broker.domain.scopes import scopes_of_launcher
from broker.settings import load_settings
from tests.integration.http.sealed.scene import AUTHORITY, SERVER, Labelled
from tests.support.api import Api


@pytest.fixture
def trusted() -> tuple[str, ...]:
    """Origins that the broker may ask wherever they are."""
    return ()


@pytest.fixture
async def grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parked: Callable[[int], Any], trusted: tuple[str, ...]
) -> AsyncIterator[tuple[Api, Api]]:
    """A broker with TLS; its first user's calls, and the first launcher's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    files = {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}
    files["tls_cert"].write_bytes(SERVER.pem)
    files["tls_key"].write_bytes(SERVER.key_pem)
    settings = load_settings(
        {"data": tmp_path / "data", "listen": "127.0.0.1:0", "user": "alice", "outgoing_trusted": trusted, **files}
    )
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    async with running_broker(settings) as url:
        assert url.startswith("https://")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
            logins = tmp_path / "config/vmbroker"
            tokens = [json.loads((logins / f"{name}.json").read_text())["token"] for name in ("login", "launcher")]
            yield Api(http, url, tokens[0]), Api(http, url, tokens[1])


@pytest.fixture
def labelled(tmp_path: Path, launcher: Api) -> Labelled:
    """The calls of a launcher whose token carries labels."""

    def bearing(*labels: str, subject: str = "renci") -> Api:
        tokens = Tokens(load_keys(tmp_path / "data" / "keys"))
        return launcher.bearing(tokens.issue(subject, scopes_of_launcher(), timedelta(minutes=5), labels))

    return bearing
