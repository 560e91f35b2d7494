"""A launcher, for tests to kill: its own libvirtd with one idling VM, then nothing but waiting.

Usage: launcher_process.py FOLDER [ACCOUNT]. It becomes ACCOUNT first, and prints a line once the VM runs.
"""

import asyncio
import os
import pwd
import sys
from pathlib import Path

from launcher.hypervisor.account import Account
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.hypervisor.private_daemon import private_daemon
from tests.integration.hypervisor.guests import IDLE, Guest


def become(name: str) -> None:
    entry = pwd.getpwnam(name)
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


async def main(folder: Path) -> None:
    account = Account.choose()
    guest = Guest(IDLE)
    async with (
        private_daemon(folder / "libvirt", account, show_kvm=False) as daemon,
        Hypervisor(daemon.uri, autodestroy=False) as hypervisor,
    ):
        await hypervisor.start_vm(guest.on_file(guest.make_disk(folder, account)))
        sys.stdout.write("running\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    for name in sys.argv[2:]:
        become(name)
    asyncio.run(main(Path(sys.argv[1])))
