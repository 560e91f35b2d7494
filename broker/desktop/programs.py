"""Run the desktop's own tools: in plain English, out of reach of the terminal's Ctrl-C, within bounds."""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from broker.desktop.failure import DesktopFailure

OUTPUT_BYTES = 16 * 1024 * 1024
_READ_BYTES = 65_536
_STOP_S = 10.0
_PACKAGES = {
    "qemu-img": "qemu-utils on Debian and Ubuntu, qemu-img on Fedora and Enterprise Linux",
    "virt-customize": "libguestfs-tools on Debian and Ubuntu, guestfs-tools on Fedora and Enterprise Linux",
    "virsh": "libvirt-clients on Debian and Ubuntu, libvirt-client on Fedora and Enterprise Linux",
}

Heard = Callable[[bytes], None]
"""Told what a program writes to stdout, as it comes."""


class Ended(NamedTuple):
    """How a program ended, and what it said."""

    status: int
    out: bytes
    err: str

    @property
    def reason(self) -> str:
        """The first line of what it complained about, without its own name."""
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        return lines[0].removeprefix("qemu-img: ").removeprefix("error: ") if lines else f"exit status {self.status}"


async def run(
    program: str,
    *arguments: str,
    timeout_s: float,
    heard: Heard | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run a program to its end; a cancelled call ends the program first. `environment` is added to our own.

    Raises:
        DesktopFailure: it is not installed, did not end in time, or wrote more than `OUTPUT_BYTES`.
    """
    process = await _start(program, arguments, environment or {})
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await asyncio.gather(_read(program, process.stdout, heard), _read(program, process.stderr, None))
            status = await process.wait()
    except TimeoutError as error:
        raise DesktopFailure(f"{program} {arguments[0]} did not end within {timeout_s:.0f} s: try again") from error
    finally:
        await _stop(process)
    return Ended(status, out, err.decode(errors="replace"))


async def _start(
    program: str, arguments: tuple[str, ...], environment: Mapping[str, str]
) -> asyncio.subprocess.Process:
    try:
        # A session of its own: Ctrl-C at the terminal reaches us alone, and we end what we started.
        return await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **environment, "LC_ALL": "C"},
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise DesktopFailure(f"{program} is not installed: install {_PACKAGES[program]}") from error


async def _read(program: str, stream: asyncio.StreamReader | None, heard: Heard | None) -> bytes:
    assert stream is not None, "both outputs are pipes"
    content = bytearray()
    while chunk := await stream.read(_READ_BYTES):
        if heard is not None:
            heard(chunk)
            continue
        content += chunk
        if len(content) > OUTPUT_BYTES:
            raise DesktopFailure(f"{program} said more than {OUTPUT_BYTES} bytes: this is not what it was asked for")
    return bytes(content)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
