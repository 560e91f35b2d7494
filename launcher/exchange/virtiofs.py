"""A virtiofsd of the launcher's own for one vm's shared folder, shut up with nothing but that folder.

A session libvirt starts none, and takes one that listens on a socket already. virtiofsd acts for a guest that may be
hostile, and wants to be root: it is root of a user namespace in which the one id that exists is QEMU's account, so that
to the node it has that account's rights and no more. A guest's other accounts cannot own files in the folder.

Whether a node allows that, and has a virtiofsd that works so, is found out by starting one.

Source: user_namespaces(7), https://libvirt.org/kbase/virtiofs.html, "Externally-launched virtiofsd".
"""

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from launcher.exchange.programs import SYSTEM_PATH, Account, ProgramFailed
from launcher.interpreter import own_python

_PLACES: Final = f"{SYSTEM_PATH}:/usr/libexec:/usr/lib/qemu:/usr/libexec/qemu"
_START_LIMIT_S: Final = 10.0
_END_LIMIT_S: Final = 10.0
_POLL_S: Final = 0.02
_LOG_BYTES: Final = 600
_CHUNK_BYTES: Final = 65_536


@asynccontextmanager
async def virtiofsd(account: Account, folder: Path, socket: Path) -> AsyncIterator[None]:
    """Serve the folder on the socket for the time of the block; it dies with the launcher, too.

    Raises:
        ProgramFailed: this node has none that works so; the text is a sentence.
    """
    program = shutil.which("virtiofsd", path=_PLACES)
    if program is None:
        raise ProgramFailed("virtiofsd is not installed")
    arguments = [program, f"--socket-path={socket}", "-o", f"source={folder}", "-o", "sandbox=chroot"]
    process = await _start(account, arguments)
    words = bytearray()
    hearing = asyncio.create_task(_keep_last(process, words))
    try:
        await _wait_listening(process, socket, hearing, words)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_END_LIMIT_S):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            hearing.cancel()
            await asyncio.wait([hearing])


async def why_unusable(account: Account, scratch: Path) -> str | None:
    """Say why no virtiofsd works here, None if one does: it is started, in a folder of the account's."""
    try:
        async with virtiofsd(account, scratch, scratch / "probe.sock"):
            return None
    except (ProgramFailed, OSError) as error:
        return str(error)


async def _start(account: Account, arguments: list[str]) -> asyncio.subprocess.Process:
    plan = {"argv": arguments, "uid": account.uid, "gid": account.gid, "path": SYSTEM_PATH, "launcher": os.getpid()}
    keeper = Path(__file__).with_name("virtiofsd_keeper.py")
    return await asyncio.create_subprocess_exec(
        *(*own_python(), "-I", "-S", str(keeper), json.dumps(plan)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={},
        start_new_session=True,
    )


async def _keep_last(process: asyncio.subprocess.Process, words: bytearray) -> None:
    """Keep the end of what it says: a guest can have it say a great deal, and it must not wait for a reader."""
    assert process.stdout is not None
    while chunk := await process.stdout.read(_CHUNK_BYTES):
        words += chunk
        del words[:-_LOG_BYTES]


async def _wait_listening(
    process: asyncio.subprocess.Process, socket: Path, hearing: asyncio.Task[None], words: bytearray
) -> None:
    try:
        async with asyncio.timeout(_START_LIMIT_S):
            # It takes one connection in its life, QEMU's: its socket must not be tried.
            while not socket.is_socket():
                if process.returncode is not None:
                    await hearing
                    raise ProgramFailed(f"virtiofsd does not work here: {_last_line(words)}")
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise ProgramFailed(f"virtiofsd did not listen within {_START_LIMIT_S:g} s") from error


def _last_line(words: bytearray) -> str:
    lines = words.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it ended without a word"
