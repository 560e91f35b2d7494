"""The stub that an image needs to be found by the client, and the script that installs it on any init system.

The text is the same whoever asks and by whatever address, so nothing of a request can get into what root will run.
"""

from functools import cache
from importlib import resources


@cache
def install_script() -> str:
    """Return a POSIX shell script for root of the machine. Idempotent; `--remove` takes the stub out again."""
    stub = resources.files("broker.wire").joinpath("stub")
    unit = stub.joinpath("vmbroker-guest.service").read_text()
    return stub.joinpath("install.sh").read_text().replace("@UNIT@\n", unit)
