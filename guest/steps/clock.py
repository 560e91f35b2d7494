"""What a fresh or restored vm lacks: the time, and randomness that no other vm has."""

import fcntl
import os
import time
from datetime import datetime

TOLERATED_DIFFERENCE_S = 1.0
RNDRESEEDCRNG = 0x5207
"""Source: Linux include/uapi/linux/random.h."""


def set_clock(now: str, tolerated_s: float = TOLERATED_DIFFERENCE_S) -> float | None:
    """Set the clock when it is off by more than that; gives the seconds it was moved by, None when left alone.

    Raises:
        ValueError: `now` is no RFC 3339 time.
        OSError: the account may not set it.
    """
    difference_s = datetime.fromisoformat(now).timestamp() - time.time()
    if abs(difference_s) <= tolerated_s:
        return None
    time.clock_settime(time.CLOCK_REALTIME, time.time() + difference_s)
    return difference_s


def feed_entropy(entropy: bytes) -> None:
    """Mix the bytes into the kernel's generator and reseed it at once: clones of one memory repeat their numbers.

    Raises:
        OSError: the account may not reseed it.
    """
    descriptor = os.open("/dev/urandom", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, entropy)
        fcntl.ioctl(descriptor, RNDRESEEDCRNG)
    finally:
        os.close(descriptor)
