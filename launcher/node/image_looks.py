"""How an image is looked into on a node: by a program that has no more rights than the vm's own QEMU."""

import signal
from collections.abc import Sequence
from typing import Final

from launcher.exchange.programs import Account, Bounds, Finished, ProgramFailed, SaysTooMuch, run_program
from launcher.images import CacheFailed, Limits, RunAsQemu

_FILE_TOO_LARGE: Final = 128 + signal.SIGXFSZ


def look_as(account: Account) -> RunAsQemu:
    """Return what runs a program over an image as QEMU's account, in namespaces without a network."""

    async def run(arguments: Sequence[str], limits: Limits) -> Finished:
        bounds = Bounds(seconds=limits.seconds, cpu_s=limits.cpu_s, memory_bytes=limits.memory_bytes, file_bytes=0)
        try:
            return await run_program(account, arguments, bounds)
        except SaysTooMuch as error:
            return Finished(_FILE_TOO_LARGE, b"", str(error).encode())
        except ProgramFailed as error:
            raise CacheFailed(f"this node cannot look into images: {error}") from error

    return run
