"""Programs of the node's that are run to their end, with a deadline."""

import asyncio


async def communicated(process: asyncio.subprocess.Process, limit_s: float) -> tuple[bytes, bytes]:
    """Wait for a program's end; return what it wrote, empty for what is no pipe.

    Afterwards it is not running any more, whatever happened.

    Raises:
        TimeoutError: It took longer than `limit_s`.
    """
    try:
        async with asyncio.timeout(limit_s):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out or b"", err or b""
