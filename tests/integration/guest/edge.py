"""The edge around the client: a broker that speaks the guest's routes, and the launcher's end of the port."""

import asyncio
import base64
import hashlib
import os
import pty
import pwd
import sys
import tty
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from broker.wire.leases import (
    ClaimAnswer,
    ClaimRequest,
    CompleteRequest,
    FailRequest,
    Input,
    LeaseExtended,
    LeaseLimits,
    Settled,
    SignedUrl,
    UploadFacts,
    UrlsAnswer,
    UrlsRequest,
)
from broker.wire.port import FromGuest, Hello, Log, Stop, Welcome
from broker.wire.problems import MEDIA_TYPE, PROBLEMS, ProblemCode, problem
from broker.wire.secrets import GivenSecret
from broker.wire.states import Instruction

DEADLINE_S = 30.0
LEASE = "vl1.a.alice/render/17.1.k.nonce"
CURRENT_ACCOUNT = pwd.getpwuid(os.geteuid()).pw_name


def refused(code: ProblemCode, detail: str) -> web.Response:
    body = msgspec.json.encode(problem(code, detail))
    return web.Response(status=PROBLEMS[code].status, body=body, content_type=MEDIA_TYPE)


def answered(message: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(message), content_type="application/json")


@dataclass
class EdgeBroker:
    """Gives one item, keeps what it is sent, and misbehaves as a test sets it."""

    run: str = "/bin/true"
    script: str = ""
    input_bytes: bytes | None = None
    inputs: dict[str, bytes | None] = field(default_factory=dict)
    """Further ones; one that is None is not there."""
    input_status: int = 200
    input_origin: str | None = None
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    """By method: the transfers of this kind wait for the event."""
    transfers: list[str] = field(default_factory=list)
    """The methods of the transfers that began."""
    params: dict[str, str] = field(default_factory=dict)
    secrets: list[GivenSecret] = field(default_factory=list)
    """What the claim brings; those of another version than the guest has are handed out at its calls."""
    versions: list[dict[str, int]] = field(default_factory=list)
    """What the guest said that it has, at each call for addresses."""
    plugins: dict[str, str] = field(default_factory=dict)
    """With some, input and outputs are of the first one's scheme, in `other_place`."""
    other_place: str = ""
    other_query: str = ""
    as_user: str = CURRENT_ACCOUNT
    run_ms: int = 60_000
    heartbeat_ms: int = 100
    instruction: Instruction = Instruction.CONTINUE
    claim_refusal: ProblemCode | None = None
    extend_refusal: ProblemCode | None = None
    complete_refusal: ProblemCode | None = None
    breaks_after_storing: int = 0
    faults: list[tuple[str, int]] = field(default_factory=list)
    """Acts (`claim`, or one of the lease) and the statuses that their next calls get, each once."""
    lasting_fault: tuple[str, int] | None = None
    claims: list[ClaimRequest] = field(default_factory=list)
    progress: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    uploads: dict[str, UploadFacts] = field(default_factory=dict)
    """What the guest said of its outputs before it sent them."""
    folders: list[str] = field(default_factory=list)
    """The collections that it made."""
    completed: CompleteRequest | None = None
    failed: FailRequest | None = None
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application(middlewares=[self._stumble])
        app.add_routes(
            [
                web.post("/v1/claim", self._claim),
                web.post("/v1/lease/{act}", self._lease),
                web.get("/files/in/{name}", self._get),
                web.get("/files/further/{name}", self._get_further),
                web.put("/files/out/{name:.*}", self._put),
                web.route("MKCOL", "/files/out/{name:.*}", self._make_folder),
                web.head("/files/out/{name:.*}", self._head),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        address = self._runner.addresses[0]
        self.port = address[1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _stumble(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        act = request.path.rpartition("/")[2]
        for fault in self.faults:
            if fault[0] == act:
                self.faults.remove(fault)
                return web.Response(status=fault[1])
        if self.lasting_fault and self.lasting_fault[0] == act:
            return web.Response(status=self.lasting_fault[1])
        return await handler(request)

    async def _claim(self, request: web.Request) -> web.Response:
        self.claims.append(msgspec.json.decode(await request.read(), type=ClaimRequest))
        if self.claim_refusal:
            return refused(self.claim_refusal, "the ticket was used from elsewhere")
        given = (
            None
            if self.input_bytes is None
            else Input(name="frame 1.exr", url="https://share.example/in/frame 1.exr?s=1")
        )
        return answered(
            ClaimAnswer(
                item="alice/render/17",
                fence=1,
                lease=LEASE,
                run=self.run,
                script=self.script,
                as_user=self.as_user,
                output_files=["*"],
                limits=LeaseLimits(
                    heartbeat_ms=self.heartbeat_ms, lease_ms=60_000, run_ms=self.run_ms, output_mib=1, max_outputs=5
                ),
                input=given,
                inputs={
                    name: Input(name="same name", url=f"https://share.example/{name}/same name") for name in self.inputs
                },
                plugins=self.plugins,
                params=self.params,
                secrets=self.secrets,
            )
        )

    async def _lease(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {LEASE}":
            return refused(ProblemCode.UNAUTHENTICATED, "no lease token")
        body = await request.read()
        match request.match_info["act"]:
            case "extend":
                self.progress.append(msgspec.json.decode(body)["progress"])
                if self.extend_refusal:
                    return refused(self.extend_refusal, "the item is no longer this vm's")
                return answered(LeaseExtended(instruction=self.instruction, deadline_in_ms=60_000))
            case "urls":
                return answered(self._urls(msgspec.json.decode(body, type=UrlsRequest)))
            case "complete" if self.complete_refusal:
                return refused(self.complete_refusal, "the output o is not there")
            case "complete":
                self.completed = msgspec.json.decode(body, type=CompleteRequest)
                return answered(Settled(item="alice/render/17", state="done"))
            case _:
                self.failed = msgspec.json.decode(body, type=FailRequest)
                return answered(Settled(item="alice/render/17", state="delayed"))

    def _urls(self, request: UrlsRequest) -> UrlsAnswer:
        self.versions.append(request.secrets)
        self.uploads |= request.uploads
        for scheme in self.plugins:
            place = self.other_place or f"{scheme}://h"
            outputs = {name: f"{place}/{quote(name)}" for name in request.outputs}
            return UrlsAnswer(
                input=SignedUrl(url=f"{place}/in{self.other_query}", target=f"{place}/in"),
                outputs={name: SignedUrl(url=url, target=url, method="PUT") for name, url in outputs.items()},
            )
        return UrlsAnswer(
            input=SignedUrl(url=f"{self.input_origin or self.url}/files/in/x?signature=secret", target="file:alice/x"),
            inputs={
                name: SignedUrl(url=f"{self.url}/files/further/{name}", target=f"file:alice/{name}/same name")
                for name in self.inputs
            },
            outputs={
                name: SignedUrl(
                    url=f"{self.url}/files/out/{name}?signature=s",
                    target=f"file:alice/{name}",
                    method="PUT",
                    folders=[f"{self.url}/files/out/{name}-folder"],
                )
                for name in request.outputs
            },
            secrets=[each for each in self.secrets if request.secrets.get(each.name, each.version) != each.version],
        )

    async def _pass_gate(self, request: web.Request) -> None:
        self.transfers.append(request.method)
        if request.method in self.gates:
            await self.gates[request.method].wait()

    async def _get(self, request: web.Request) -> web.Response:
        await self._pass_gate(request)
        return web.Response(status=self.input_status, body=self.input_bytes if self.input_status == 200 else b"")

    async def _get_further(self, request: web.Request) -> web.Response:
        content = self.inputs[request.match_info["name"]]
        return web.Response(status=404) if content is None else web.Response(body=content)

    async def _make_folder(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        is_there = name in self.folders
        self.folders += [] if is_there else [name]
        return web.Response(status=405 if is_there else 201)

    async def _put(self, request: web.Request) -> web.Response:
        name, body = request.match_info["name"], await request.read()
        await self._pass_gate(request)
        self.puts.append(name)
        if request.headers.get("If-None-Match") == "*" and name in self.files:
            return web.Response(status=412)
        if request.headers["Repr-Digest"] != _digest_field(body):
            return web.Response(status=422)
        self.files[name] = body
        if len(self.puts) <= self.breaks_after_storing:
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=201)

    async def _head(self, request: web.Request) -> web.Response:
        body = self.files[request.match_info["name"]]
        return web.Response(headers={"Repr-Digest": _digest_field(body)})


def _digest_field(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


class PortEnd:
    """The launcher's end of a port that is a pseudo terminal: it welcomes the guest and keeps what it logs."""

    def __init__(self, broker_url: str, *, proxy: str | None, ticket: str) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._master)
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.device = Path(os.ttyname(self._slave))
        self.hellos: list[str] = []
        self.logs: list[str] = []
        self._welcome = Welcome(
            ticket=ticket, broker=broker_url, now="2000-01-01T00:00:00Z", entropy=b"0" * 32, proxy=proxy
        )
        self._incoming = b""

    def open(self) -> None:
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)

    def tell_stop(self, in_ms: int, reason: str = "the slot ends") -> None:
        """Write what a launcher does before it destroys the vm."""
        os.write(self._master, msgspec.json.encode(Stop(in_ms=in_ms, reason=reason)) + b"\n")

    def _read(self) -> None:
        *lines, self._incoming = (self._incoming + os.read(self._master, 65_536)).split(b"\n")
        for line in lines:
            match msgspec.json.decode(line, type=FromGuest):
                case Hello(client):
                    self.hellos.append(client)
                    os.write(self._master, b"{not json}\n" + msgspec.json.encode(self._welcome) + b"\n")
                case Log(text):
                    self.logs.append(text)


@dataclass
class RunningGuest:
    process: asyncio.subprocess.Process
    end: PortEnd

    async def wait(self) -> int:
        async with asyncio.timeout(DEADLINE_S):
            return await self.process.wait()


@dataclass(frozen=True)
class Client:
    """How to start a client; it learns of port and run folder by options, or by the environment."""

    command: tuple[str, ...]
    takes_options: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


OUR_CLIENT = Client((sys.executable, "-m", "guest.cli"))


@asynccontextmanager
async def started_guest(
    broker_url: str,
    run_folder: Path,
    *,
    proxy: str | None = None,
    ticket: str = "vt1.a.dispatch.k.mac",
    client: Client = OUR_CLIENT,
) -> AsyncIterator[RunningGuest]:
    """Start the client as a process of this host, and end it whatever happens."""
    end = PortEnd(broker_url, proxy=proxy, ticket=ticket)
    end.open()
    options = ["--stay", "--port", str(end.device), "--run-folder", str(run_folder)] if client.takes_options else []
    told = {"VMBROKER_STAY": "1", "VMBROKER_PORT": str(end.device), "VMBROKER_RUN_FOLDER": str(run_folder.parent)}
    with (run_folder.parent / "guest.out").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *client.command,
            *options,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **told, **client.environment},
        )
    try:
        yield RunningGuest(process, end)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        end.close()


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 # other processes set no Event
            await asyncio.sleep(0.02)
