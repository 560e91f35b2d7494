"""The API by plain HTTP calls: what any program could send, with nothing of our client in between."""

import base64
import hashlib
import io
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
from yarl import URL

from tests.support.contract import check_answer

XML = """
<domain type='kvm'>
  <name>m</name>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os><type>hvm</type></os>
  <devices><disk type='file'><source file='/somewhere/disk.img'/><target dev='vda'/></disk></devices>
</domain>
"""
IMAGE = b"the bytes of an image"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The problem's code; fails when it is no problem as every error must be."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        assert self.json["request_id"] == self.headers["X-Request-Id"]
        assert self.json["status"] == self.status
        return str(self.json["code"])


class Api:
    """Calls of one bearer of a token to one broker."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str | None) -> None:
        self._http = http
        self.url = url
        self.token = token

    def bearing(self, token: str | None) -> Self:
        """Return the same with another token."""
        return type(self)(self._http, self.url, token)

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        follows: bool = True,
    ) -> Answer:
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        url = URL(path if path.startswith("http") else f"{self.url}{path}", encoded=True)
        body = io.BytesIO(data) if data is not None else None
        async with self._http.request(
            method, url, json=json, data=body, headers=sent, allow_redirects=follows
        ) as response:
            answer = Answer(response.status, response.headers, await response.read())
        check_answer(method, url.raw_path, answer.status, answer.headers, answer.body)
        return answer

    async def ok(self, method: str, path: str, **more: Any) -> Any:
        """Make a call that must succeed; return its JSON."""
        answer = await self.call(method, path, **more)
        assert answer.status < 300, (method, path, answer.status, answer.body)
        return json.loads(answer.body) if answer.body else None

    @asynccontextmanager
    async def stream(
        self, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        sent = {**(headers or {}), "Authorization": f"Bearer {self.token}"}
        async with self._http.get(f"{self.url}{path}", headers=sent) as response:
            yield response


async def add_machine(user: Api, name: str = "m") -> None:
    """Give alice a machine with one disk."""
    await user.ok("PUT", f"/v1/images/{digest_of(IMAGE)}", data=IMAGE)
    disk = {"digest": digest_of(IMAGE), "size_bytes": len(IMAGE), "format": "raw"}
    await user.ok("PUT", f"/v1/machines/alice/{name}", json={"domain_xml": XML, "disks": {"vda": disk}})


async def add_stream(user: Api, job: str = "render", **spec: Any) -> str:
    """Give alice a machine and a stream over it; return the stream's path."""
    await add_machine(user)
    await user.ok("PUT", f"/v1/streams/alice/{job}", json={"machine": "m", "run": "/opt/app/run", **spec})
    return f"/v1/streams/alice/{job}"


def offer(
    *, wait_ms: int = 0, launcher: str = "l1", key: str | None = None, most: int | None = None, **room: Any
) -> dict[str, Any]:
    """Return the body of a dispatch with room for one vm, or for as many as fit."""
    offered = {"vcpus": 4, "memory_mib": 8192, "disk_mib": 100_000, "accelerator": "tcg", **room}
    return {
        "dispatch_key": key or secrets.token_hex(16),
        "launcher": launcher,
        "node": "n1",
        "room": offered,
        "wait_ms": wait_ms,
        **({} if most is None else {"most": most}),
    }


async def claim(api: Api, ticket: str, claim_key: str | None = None, *, takes_inputs: bool = True) -> Answer:
    key = claim_key or base64.b64encode(secrets.token_bytes(32)).decode()
    body = {"ticket": ticket, "claim_key": key, "takes_inputs": takes_inputs}
    return await api.bearing(None).call("POST", "/v1/claim", json=body)


async def put_output(guest: Api, content: bytes, name: str = "out.txt") -> dict[str, Any]:
    """Upload an output as a guest does; return what a completion says of it."""
    signed = (await guest.ok("POST", "/v1/lease/urls", json={"outputs": [name]}))["outputs"][name]
    answer = await guest.bearing(None).call(signed["method"], signed["url"], data=content, headers=signed["headers"])
    assert answer.status == 201, answer
    return {"name": name, "size_bytes": len(content), "digest": digest_of(content), "url": signed["target"]}


async def run_item(launcher: Api, content: bytes = b"a result", log: bytes = b"") -> str:
    """Take the next item, run it as a launcher and a guest would, and return its name."""
    dispatched = await launcher.ok("POST", "/v1/dispatch", json=offer())
    claimed = (await claim(launcher, dispatched["ticket"])).json
    guest = launcher.bearing(claimed["lease"])
    output = await put_output(guest, content)
    said = base64.b64encode(log).decode()
    await guest.ok("POST", "/v1/lease/complete", json={"outputs": [output], "exit_code": 0, "log": said})
    end = {
        "launcher": "l1",
        "verdict": "completed",
        "sentence": "done",
        "console": base64.b64encode(b"bye\x1b[2J\n").decode(),
    }
    await launcher.ok("POST", f"/v1/dispatches/{dispatched['dispatch']}/end", json=end)
    return str(dispatched["item"])


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def digest_field(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"
