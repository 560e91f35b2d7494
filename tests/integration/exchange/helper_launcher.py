"""A launcher, for tests to kill: it runs one helper that does not end by itself.

Usage: helper_launcher.py [ACCOUNT]. It becomes ACCOUNT first.
"""

import asyncio
import sys

from launcher.exchange.programs import Bounds, run_program
from launcher.hypervisor.account import Account
from tests.integration.hypervisor.launcher_process import become


async def main() -> None:
    # The helper's own helper is an orphan of a session of its own, as libguestfs' QEMU is.
    command = ("sh", "-c", "setsid sleep 600 & exec sleep 600")
    await run_program(Account.choose(), command, Bounds(seconds=120))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        become(name)
    asyncio.run(main())
