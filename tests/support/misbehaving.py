"""An HTTP server by hand, for what no server should do: each connection is one handler's, byte by byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Handler = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Given the request's head."""


@asynccontextmanager
async def misbehaving(handler: Handler) -> AsyncIterator[str]:
    """Serve, one request for each connection, and give the address."""
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await handler((await reader.readuntil(b"\r\n\r\n")).decode(), reader, writer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running)


def head(status: str, **headers: str | int) -> bytes:
    """Write an answer's head, `Connection: close` in it."""
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def field(request: str, name: str) -> str | None:
    """Return a header's value."""
    for line in request.splitlines():
        if line.lower().startswith(f"{name.lower()}:"):
            return line.partition(":")[2].strip()
    return None
