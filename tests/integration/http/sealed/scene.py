"""A stream whose items need secrets, and what its parties do, by plain HTTP calls."""

import base64
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import certificates
from tests.support.api import Answer, Api, add_stream, offer

AUTHORITY = certificates.authority()
SERVER = certificates.server(AUTHORITY)
PROXY = certificates.proxy(certificates.person(AUTHORITY, "alice")).as_proxy_file
TOKEN = b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
LICENCE = b"line one of a licence\nline two of a licence\n"
NEEDY: dict[str, Any] = {"secrets": [{"name": "proxy"}], "trust": ["renci", "unl"]}
Labelled = Callable[..., Api]


async def put(user: Api, name: str = "proxy", value: bytes = PROXY, kind: str = "x509_proxy") -> Any:
    body = {"value": base64.b64encode(value).decode(), "kind": kind}
    return await user.ok("PUT", f"/v1/secrets/alice/{name}", json=body)


async def claim(api: Api, ticket: str, key: str | None = None, **more: Any) -> Answer:
    body = {"ticket": ticket, "claim_key": key or claim_key(), "takes_secrets": True, "takes_inputs": True, **more}
    return await api.bearing(None).call("POST", "/v1/claim", json=body)


def claim_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


async def needy_item(user: Api, launcher: Api, **spec: Any) -> tuple[str, Any]:
    """Push an item of a stream that needs secrets, and give it out; return the stream's path and the dispatch."""
    stream = await add_stream(user, **{**NEEDY, **spec})
    await user.ok("POST", f"{stream}/items", json=[{}])
    return stream, await launcher.ok("POST", "/v1/dispatch", json=offer())


def values(given: list[dict[str, Any]]) -> dict[str, bytes]:
    return {each["name"]: base64.b64decode(each["value"]) for each in given}


async def events(user: Api, stream: str) -> list[dict[str, Any]]:
    answer = await user.call("GET", f"{stream}/events", headers={"Accept": "application/x-ndjson"})
    return [json.loads(line) for line in answer.body.splitlines() if line]


def kept_below(folder: Path, value: bytes) -> list[str]:
    """Return the files that hold a value in any form that is easily read."""
    forms = [value, base64.b64encode(value), *(line for line in value.splitlines() if len(line) > 40)]
    return [
        str(file) for file in folder.rglob("*") if file.is_file() and any(form in file.read_bytes() for form in forms)
    ]
