"""The broker's calls as bytes: what launchers, guests and a researcher send, with nothing of our client in between."""

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from bench.broker.drive import Answer
from bench.failing import BenchFailed
from broker.wire.dispatches import DispatchRequest
from broker.wire.items import CHUNK_ITEMS
from broker.wire.kinds import Message

MOST = 16 if "most" in DispatchRequest.__struct_fields__ else 1
"""Items that a dispatch asks for, where the broker gives several in one answer."""
STREAM = "/v1/streams/alice/work"
URL_CHARS = 120
_JSON, _NDJSON = "application/json", "application/x-ndjson"
_OK = 300


class _Given(Message, frozen=True, kw_only=True):
    ticket: str


class _GivenSeveral(Message, frozen=True, kw_only=True):
    """An answer of either kind: with one item, or with several."""

    dispatches: tuple[_Given, ...] = ()
    ticket: str = ""


class _Leased(Message, frozen=True, kw_only=True):
    lease: str


_SEVERAL, _LEASED = msgspec.json.Decoder(_GivenSeveral), msgspec.json.Decoder(_Leased)


@dataclass(frozen=True)
class Calls:
    """Requests of one researcher and one launcher's token."""

    researcher: str
    launcher: str

    def dispatch(self, name: str, *, most: int = 1, wait_ms: int = 0) -> bytes:
        """Offer the room of a launcher of this name. Every call has a dispatch key of its own."""
        room = {"vcpus": MOST, "memory_mib": 1024 * MOST, "disk_mib": 20_480 * MOST, "accelerator": "tcg"}
        request = {
            "dispatch_key": secrets.token_hex(16),
            "launcher": name,
            "node": "bench",
            "room": room,
            "wait_ms": wait_ms,
            **({"most": most} if most > 1 else {}),
        }
        return _post("/v1/dispatch", msgspec.json.encode(request), self.launcher)

    def claim(self, ticket: str) -> bytes:
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        return _post("/v1/claim", msgspec.json.encode({"ticket": ticket, "claim_key": key}), None)

    def complete(self, lease: str) -> bytes:
        return _post("/v1/lease/complete", b'{"outputs":[],"exit_code":0}', lease)

    def cancel(self, item: str) -> bytes:
        return _post(f"{item}/cancel", b"", self.researcher)

    def push(self, urls: list[str]) -> bytes:
        """Push items as our client does: lines, and an idempotency key."""
        body = b"".join(b'{"url":"%s"}\n' % url.encode() for url in urls)
        key = f"Idempotency-Key: {secrets.token_hex(16)}/0\r\n"
        return _post(f"{STREAM}/items", body, self.researcher, kind=_NDJSON, more=key)


def url_of(number: int) -> str:
    """Return the URL of an item, always of the same length."""
    tail = f"/{number:012d}.fits"
    head = "https://data.example.org/collections/survey-2026/"
    return head + "x" * (URL_CHARS - len(head) - len(tail)) + tail


def urls_of(count: int) -> Iterator[list[str]]:
    """Yield the URLs of so many items in chunks of one push request."""
    for first in range(0, count, CHUNK_ITEMS):
        yield [url_of(number) for number in range(first, min(first + CHUNK_ITEMS, count))]


def tickets_of(answer: Answer) -> list[str]:
    """Return the tickets that a dispatch was answered: none, one, or several."""
    if answer.status == 204:
        return []
    check(answer)
    given = _SEVERAL.decode(answer.body)
    return [each.ticket for each in given.dispatches] or [given.ticket]


def lease_of(answer: Answer) -> str:
    """Return the lease of a claim."""
    check(answer)
    return _LEASED.decode(answer.body).lease


def check(answer: Answer) -> None:
    """Check that a call succeeded.

    Raises:
        BenchFailed: with what was answered.
    """
    if not 200 <= answer.status < _OK:
        raise BenchFailed(f"a call was answered {answer.status}: {answer.body[:500]!r}")


def _post(path: str, body: bytes, token: str | None, *, kind: str = _JSON, more: str = "") -> bytes:
    proof = f"Authorization: Bearer {token}\r\n" if token is not None else ""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\n{proof}{more}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
