"""A broker with something of everything in it, for a program that makes requests up: which of them would be good."""

import base64
import secrets
from dataclasses import dataclass, field
from typing import Any, Self
from zlib import crc32

import aiohttp

from tests.support.api import IMAGE, XML, Api, add_machine, add_stream, digest_of, offer, run_item
from tests.support.grid import Broker

ITEMS = 300
_MORE = b"another image"
_TUS = {"Tus-Resumable": "1.0.0", "Upload-Length": "4"}
_DISK = {"digest": digest_of(IMAGE), "size_bytes": len(IMAGE), "format": "raw"}
_ROOM = offer()["room"]
_CALLBACK = {"url": "https://hooks.invalid/done", "secrets": ["hook"]}
"""Where nobody is told anything: the name leads nowhere."""
_BODIES: dict[str, Any] = {
    "machines_put_machine": {"domain_xml": XML, "disks": {"vda": _DISK}},
    "images_put_image": IMAGE,
    "streams_put_stream": {"machine": "m", "run": "/opt/app/run"},
    "launchers_dispatch": offer(),
    "launchers_extend": {"launcher": "l1"},
    "launchers_vm_event": {"launcher": "l1", "phase": "preparing"},
    "launchers_end": {"launcher": "l1", "verdict": "host_error", "sentence": "over"},
    "presence_put_launcher": {"node": "n1", "total": _ROOM, "free": _ROOM},
    "launcher_jobs_put_jobs": {"kind": "slurm", "place": "here"},
    "files_announce_file": {"size_bytes": len(IMAGE), "digest": digest_of(IMAGE)},
    "guests_complete": {"outputs": []},
    "guests_fail": {"code": "program_failed", "sentence": "it failed", "exit_code": 1},
    "uploads_patch": b"1234",
    **{f"shares_share_{what}": {"life_s": 60} for what in ("file", "folder", "files")},
    "logins_make_login_code": {},
    "tokens_make_token": {"name": "x"},
    "tokens_make_site_token": {"users": ["bob"]},
    "secrets_put_secret": {"kind": "file", "value": "bm90IG11Y2ggb2YgYSBzZWNyZXQ="},
}
_PATHS = {
    "user": "alice",
    "job": "render",
    "name": "m",
    "reader": "bob",
    "site": "renci",
    "number": 1,
    "digest": digest_of(IMAGE),
    "path": "x",
    "folder": "in",
}
_PATHS_OF: dict[str, dict[str, Any]] = {
    "outputs_get_output": {"path": "out.txt"},
    "machines_delete_machine": {"name": "spare"},
    "secrets_delete_secret": {"name": "spare"},
    "files_delete_file": {"path": "gone"},
    "images_delete_image": {"digest": digest_of(_MORE)},
    **{key: {"job": "paused"} for key in ("streams_pause", "streams_resume")},
    "streams_cancel_all": {"job": "stopped"},
    "streams_hold_all": {"job": "held"},
    "streams_release_all": {"job": "released"},
    "streams_purge": {"job": "gone"},
    "stream_callbacks_try_callback": {"job": "told"},
    "tokens_revoke_user": {"user": "bob"},
    "logins_make_login_code": {"user": "bob"},
}
_ITEMS_OF = {"items_cancel": 1, "items_hold": 100, "items_release": 200}
"""After which number the items stand that an act on one has for itself."""


@dataclass
class Live:
    """What is good for an operation, by the `operationId` that the document gives it."""

    broker: Broker
    uploads: list[str]
    _dispatches: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    async def peopled(cls, broker: Broker) -> Self:
        """Put a machine, a stream, items, a file, images and uploads into a fresh broker."""
        async with aiohttp.ClientSession() as http:
            user, launcher = Api(http, broker.url, broker.token()), Api(http, broker.url, broker.token("launcher"))
            stream = await add_stream(user)
            for job in ("paused", "stopped", "held", "released", "gone"):
                await add_stream(user, job)
            await add_machine(user, "spare")
            for name in ("m", "spare"):
                await user.ok("PUT", f"/v1/secrets/alice/{name}", json=_BODIES["secrets_put_secret"])
            key = base64.b64encode(b"whsec_" + base64.b64encode(b"k" * 32)).decode()
            await user.ok("PUT", "/v1/secrets/alice/hook", json={"kind": "webhook_key", "value": key})
            told = {"machine": "m", "run": "/opt/app/run", "callback": _CALLBACK}
            await user.ok("PUT", "/v1/streams/alice/told", json=told)
            await user.ok("POST", "/v1/streams/alice/told/items", json=[{}])
            await user.ok("POST", "/v1/streams/alice/told/items/1/cancel")
            await user.ok("PUT", f"/v1/images/{digest_of(_MORE)}", data=_MORE)
            for path in ("x", "in/x", "gone"):
                await user.ok("PUT", f"/v1/files/alice/{path}", data=b"some bytes")
            await user.ok("POST", f"{stream}/items", json=[{}] * ITEMS)
            item = await run_item(launcher, log=b"said")
            dispatch = (await user.ok("GET", f"/v1/streams/{item.rpartition('/')[0]}/items/1"))["vm"]["dispatch"]
            end = {"launcher": "l1", "verdict": "completed", "sentence": "done", "domain_xml": XML}
            await launcher.ok("POST", f"/v1/dispatches/{dispatch}/end", json=end)
            for number in range(4):
                await user.ok("POST", "/v1/uploads", headers={**_TUS, **_metadata(b"%d" % number)})
            return cls(broker, [each["upload"] for each in await user.ok("GET", "/v1/uploads")])

    def token(self, operation: str, security: list[dict[str, list[str]]]) -> str | None:
        asked = {name: scopes for each in security for name, scopes in each.items()}
        if "lease" in asked:
            return str(self._dispatched(operation)["lease"])
        if "login" in asked:
            return str(self._logged_in()["login"])
        if "token" in asked:
            return self.broker.token("launcher" if "queue.dispatch" in asked["token"] else "login")
        return None

    def part(self, operation: str, name: str, chance: int) -> Any:
        """Return what may stand in the address for its part `name`."""
        if name == "dispatch":
            return self._dispatched(operation)["dispatch"]
        if name == "token":
            return self.broker.call("POST", "/v1/tokens", {}, self.broker.token())["id"]
        if name == "callback":
            return self.broker.call("GET", "/v1/callbacks", None, self.broker.token())["callbacks"][0]["callback"]
        if name == "upload":
            return self.uploads[crc32(operation.encode()) % len(self.uploads)]
        if name == "number" and operation in _ITEMS_OF:
            return _ITEMS_OF[operation] + 1 + chance % 99
        return {**_PATHS, **_PATHS_OF.get(operation, {})}[name]

    def body(self, operation: str) -> Any:
        """Return a good body, or None where none is better than another."""
        if operation == "logins_log_in":
            return {"code": self._code(), "login_key": _claim_key()}
        if operation == "guests_claim":
            return {"ticket": self._dispatch()["ticket"], "claim_key": _claim_key()}
        return _BODIES.get(operation)

    def headers(self, operation: str) -> dict[str, str]:
        match operation:
            case "uploads_create":
                return {**_TUS, **_metadata(secrets.token_bytes(8))}
            case "uploads_head" | "uploads_delete" | "uploads_override":
                return dict(_TUS)
            case "uploads_patch":
                return {**_TUS, "Upload-Offset": "0"}
        return {}

    def _dispatched(self, operation: str) -> dict[str, Any]:
        """Return a dispatch, and its lease, that the operation has for itself."""
        if operation not in self._dispatches:
            found = self._dispatch()
            claim = {"ticket": found["ticket"], "claim_key": _claim_key()}
            self._dispatches[operation] = {**found, **self.broker.call("POST", "/v1/claim", claim)}
        return self._dispatches[operation]

    def _code(self) -> str:
        return str(self.broker.call("POST", "/v1/users/carol/codes", {}, self.broker.token())["code"])

    def _logged_in(self) -> dict[str, Any]:
        body = {"code": self._code(), "login_key": _claim_key()}
        found: dict[str, Any] = self.broker.call("POST", "/v1/login", body)
        return found

    def _dispatch(self) -> dict[str, Any]:
        found: dict[str, Any] = self.broker.call("POST", "/v1/dispatch", offer(), self.broker.token("launcher"))
        return found


def blended(good: Any, wild: Any) -> Any:
    """Return a good body with one part of a wild one."""
    if not isinstance(good, dict) or not isinstance(wild, dict):
        return wild if isinstance(good, dict) else good
    if not wild:
        return good
    name = sorted(wild)[crc32(repr(wild).encode()) % len(wild)]
    return {**good, name: blended(good.get(name), wild[name]) if isinstance(good.get(name), dict) else wild[name]}


def _metadata(content: bytes) -> dict[str, str]:
    return {"Upload-Metadata": f"digest {base64.b64encode(digest_of(content).encode()).decode()}"}


def _claim_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()
