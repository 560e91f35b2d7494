"""Whether QEMU's account may read, write or enter something: asked of the kernel as that account, not reckoned."""

import asyncio
import subprocess
from pathlib import Path
from typing import Final

from launcher.hypervisor.account import Account
from launcher.interpreter import own_python
from launcher.processes import communicated

_LIMIT_S: Final = 10.0
# It becomes the account only when it runs, for that account need not reach this Python's own files.
_ASK: Final = """\
import os, sys
uid, gid, mode, path, *groups = sys.argv[1:]
if int(uid) != os.geteuid():
    os.setgroups([int(group) for group in groups])
    os.setresgid(int(gid), int(gid), int(gid))
    os.setresuid(int(uid), int(uid), int(uid))
print(os.access(path, int(mode)))
"""


async def may(account: Account, mode: int, path: Path) -> bool:
    """Tell whether the account may do what `mode` says (`os.R_OK` and the like) with a file or folder.

    Raises:
        OSError: that cannot be asked.
    """
    arguments = map(str, (account.uid, account.gid, mode, path, *account.groups))
    process = await asyncio.create_subprocess_exec(
        *(*own_python(), "-I", "-S", "-c", _ASK, *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    said, complaint = await communicated(process, _LIMIT_S)
    if process.returncode != 0:
        raise OSError(f"uid {account.uid} cannot be asked about {path}: {complaint.decode(errors='replace')[-200:]}")
    return said.strip() == b"True"
