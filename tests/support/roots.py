"""Clean roots of other Debian releases, and commands run in them: chrooted, unable to write to them.

The mounts are those of a mount namespace that ends with the command, so that none is ever left. The network is this
machine's.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.grid import REPOSITORY, running

SHARED: Final = Path("/srv")
"""Where a command in a root sees the folder that it shares with its test."""
_BUILD_LIMIT_S: Final = 600
# A container's devices, and no /dev/kvm; what is below /proc and /sys is mounted there as it is here.
_ENTER: Final = """\
set -e
root=$1 shared=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
for folder in proc sys; do mount --rbind /$folder "$root/$folder"; done
for folder in dev run tmp var/tmp; do mount -t tmpfs -o mode=1777 tmpfs "$root/$folder"; done
for device in null zero full random urandom; do
	: >"$root/dev/$device"
	mount --bind /dev/$device "$root/dev/$device"
done
mkdir "$root/dev/shm"
mount --bind "$shared" "$root/srv"
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
"""


def built_root(name: str) -> Path:
    """Return the folder of a clean root, building it when it is not there."""
    command = [str(REPOSITORY / "deploy" / "image" / "build"), name, "--print-path"]
    built = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_LIMIT_S, check=False)
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip()) / "root"


def run_in_root(root: Path, shared: Path, *command: str | Path, timeout_s: float = 60) -> str:
    """Run a command in the root that must succeed; return what it printed."""
    done = subprocess.run(_words(root, shared, command), capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def running_in_root(root: Path, shared: Path, log: Path, *command: str | Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command in the root for the block; SIGTERM at its end, and it must end well."""
    with running(_words(root, shared, command), log) as process:
        yield process


def _words(root: Path, shared: Path, command: Sequence[str | Path]) -> list[str]:
    # No process of these lives on beside the command: each becomes the next, and at last the command.
    as_root = [] if os.geteuid() == 0 else ["--map-root-user", "--map-auto"]
    enter = ["unshare", *as_root, "--mount", "--propagation", "private", "--", "sh", "-c", _ENTER, "sh"]
    return [*enter, str(root), str(shared), *map(str, command)]
