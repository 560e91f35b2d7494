"""The guests' only network: a forward HTTP proxy of the launcher.

A guest sees one address, this proxy's. Who asks is told by the credentials that the launcher gave that vm alone; where
it may go, by the origins the launcher allowed that vm. Names are resolved on the node's side, and only addresses of the
public Internet are connected to, unless the site trusts the origin (the broker's always is). TLS passes unopened
(CONNECT). Plain HTTP is passed on one request a connection, bodies as they come.

What it does not solve: a guest may send an allowed origin whatever it likes.

Source: RFC 9110 section 9.3.6 (CONNECT), RFC 9112 section 3.2.2 (absolute form), RFC 7617 (Basic).
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from typing import Final

from broker.client.origins import Origin
from launcher.exchange.dial import Streams, dial, judge_of_site
from launcher.exchange.errors import Refused
from launcher.exchange.grants import Grant
from launcher.exchange.http_head import END_OF_HEAD, HEAD_LIMIT_BYTES, Request, parse_request, render
from launcher.exchange.relay import Relay

# A guest program that loads in parallel needs tens; the launcher's file descriptors are shared by all vms of the slot.
CONNECTIONS_PER_VM: Final = 64
CONNECTIONS: Final = 448
# Who has not shown credentials yet could be any of the vms: apart from the others, so that one vm shuts none out.
STRANGERS: Final = 64
HEAD_LIMIT_S: Final = 10.0
IDLE_LIMIT_S: Final = 300.0
# How long a guest may go on sending what nobody reads, so that it gets to read the answer.
LINGER_S: Final = 2.0
REASON_CHARACTERS: Final = 400

CONNECTED: Final = render(b"HTTP/1.1 200 Connection established", [])


class Proxy:
    """Serves the vms admitted to it.

    Args:
        trusted_origins: The broker's, and those the site trusts: reached at whatever address they have, by vms that are
            allowed them.
        idle_limit_s: How long a connection may stay without a byte either way.
    """

    def __init__(self, trusted_origins: Iterable[Origin], *, idle_limit_s: float = IDLE_LIMIT_S) -> None:
        self._judge = judge_of_site(trusted_origins)
        self._idle_limit_s = idle_limit_s
        self._grants: dict[str, Grant] = {}
        self._connections: dict[asyncio.Task[None], Grant] = {}
        self._strangers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def admit(self, vm: str, allowed_origins: Iterable[Origin]) -> Grant:
        """Let a vm in, with new credentials; an earlier vm of that name is dismissed.

        Raises:
            ValueError: The name has a colon, so it cannot be a user name.
        """
        if ":" in vm:
            raise ValueError(f"{vm!r} cannot be a user name at the proxy: it has a colon")
        self.dismiss(vm)
        grant = self._grants[vm] = Grant(vm, frozenset(allowed_origins))
        return grant

    def dismiss(self, vm: str) -> None:
        """Cut a vm off, its open connections included; does nothing if it is not known."""
        grant = self._grants.pop(vm, None)
        for task, owner in self._connections.items():
            if owner is grant:
                task.cancel()

    async def serve(self, listener: socket.socket) -> None:
        """Serve until cancelled; then every connection is cut. The listener stays the caller's to close."""
        server = await asyncio.start_server(self._accept, sock=listener.dup(), limit=HEAD_LIMIT_BYTES)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            tasks = [*self._connections, *self._strangers]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._strangers) >= STRANGERS:
            self._drop_oldest_stranger()
        task = asyncio.create_task(self._handle((reader, writer)))
        self._strangers[task] = writer
        task.add_done_callback(self._forget)

    def _drop_oldest_stranger(self) -> None:
        task = next(iter(self._strangers))
        # A task that is cancelled before it began does not close its connection.
        self._strangers.pop(task).transport.abort()
        task.cancel()

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task, None)
        self._strangers.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            context = {"message": "a proxied connection failed in an unforeseen way", "exception": error}
            task.get_loop().call_exception_handler(context)

    async def _handle(self, guest: Streams) -> None:
        _, writer = guest
        try:
            try:
                await self._answer(guest)
            except Refused as refused:
                writer.write(_refusal(refused))
            await _part(guest, self._idle_limit_s)
        except (OSError, EOFError, TimeoutError):
            # One of the two went away or fell silent; an abort, unlike a close, is never taken for the end of a body.
            pass
        finally:
            writer.transport.abort()

    async def _answer(self, guest: Streams) -> None:
        head = await _read_head(guest[0])
        request = parse_request(head)
        grant = self._authenticate(request)
        grant.count_out(len(head))
        try:
            self._claim_connection(grant)
            await self._relay(guest, request, grant)
        except Refused as refused:
            grant.refuse(request.origin, refused)
            raise

    async def _relay(self, guest: Streams, request: Request, grant: Grant) -> None:
        server = await self._connect(grant, request.origin)
        relay = Relay(guest, server, grant, self._idle_limit_s)
        try:
            if request.forwarded_head is None:
                grant.reach(request.origin).worked()
                await relay.tunnel(CONNECTED)
            else:
                await relay.pass_on(request.forwarded_head, request.body_bytes)
                grant.reach(request.origin).worked()
        finally:
            server[1].transport.abort()

    def _authenticate(self, request: Request) -> Grant:
        user, password = request.credentials or ("", "")
        grant = self._grants.get(user)
        if grant is None or not grant.is_password(password):
            raise Refused(407, "this vm did not show the credentials that its launcher gave it for the proxy")
        return grant

    def _claim_connection(self, grant: Grant) -> None:
        if sum(owner is grant for owner in self._connections.values()) >= CONNECTIONS_PER_VM:
            raise Refused(503, f"this vm has {CONNECTIONS_PER_VM} connections already, as many as it may")
        if len(self._connections) >= CONNECTIONS:
            raise Refused(503, f"the vms of this node have {CONNECTIONS} connections already, as many as they may")
        task = asyncio.current_task()
        assert task is not None
        del self._strangers[task]
        self._connections[task] = grant

    async def _connect(self, grant: Grant, origin: Origin) -> Streams:
        if not grant.allows(origin):
            raise Refused(
                403, f"{origin} is not among the hosts this item may reach: its stream can name it under `network`"
            )
        return await dial(origin, self._judge)


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(HEAD_LIMIT_S):
            return await reader.readuntil(END_OF_HEAD)
    except TimeoutError:
        raise Refused(408, f"no request came within {HEAD_LIMIT_S:g} s") from None
    except asyncio.LimitOverrunError:
        raise Refused(431, f"the request's head is longer than {HEAD_LIMIT_BYTES} bytes") from None


async def _part(guest: Streams, flush_limit_s: float) -> None:
    """Close gently: with bytes unread, a close would reset the connection before the guest has read its answer."""
    reader, writer = guest
    if not writer.is_closing():
        writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while await reader.read(HEAD_LIMIT_BYTES):
                pass
    writer.close()
    async with asyncio.timeout(flush_limit_s):
        await writer.wait_closed()


def _refusal(refused: Refused) -> bytes:
    # Clients show the phrase of an answer to CONNECT, and never its body.
    reason = str(refused).encode("ascii", "backslashreplace")[:REASON_CHARACTERS]
    reason = b" ".join(reason.split())
    body = reason + b"\n"
    challenge = [(b"Proxy-Authenticate", b'Basic realm="vmbroker"')] if refused.status == 407 else []
    headers = [
        *challenge,
        (b"Content-Type", b"text/plain; charset=us-ascii"),
        (b"Content-Length", str(len(body)).encode()),
        (b"Connection", b"close"),
    ]
    return render(b"HTTP/1.1 " + str(refused.status).encode() + b" " + reason, headers) + body
