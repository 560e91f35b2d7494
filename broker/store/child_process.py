"""Ending a child process: asked first, and made to when it takes too long."""

import asyncio


async def ended(process: asyncio.subprocess.Process | None, within_s: float) -> bool:
    """End a process, which may have ended or never begun; tell whether it did so by itself within that time."""
    if process is None or process.returncode is not None:
        return True
    process.terminate()
    try:
        async with asyncio.timeout(within_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    return True
