"""Become another program that is told to stop when the parent dies, however it dies.

Run as `python -I -S die_with_parent.py PARENT_PID PROGRAM ARGUMENTS…`, which is why it imports nothing of ours. The
wish is made in a fresh process, so that no Python runs between fork and exec in one that has threads; it survives exec.
Source: prctl(2), PR_SET_PDEATHSIG; elsewhere than on Linux there is no such wish and none is made.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def tie_to_parent(parent: int, number: signal.Signals) -> None:
    """Get the signal when the parent dies; end at once when it is dead already."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, number) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit("the parent died before the program was started")


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2]
    tie_to_parent(parent, signal.SIGTERM)
    os.execv(program, sys.argv[2:])  # noqa: S606 # becoming that program is what this is for


if __name__ == "__main__":
    main()
