"""`python -m bench.data`: measure bytes in and out on this machine; print the table, write it to bench/out/data.json.

Whatever a figure is held against is measured in the same run, in turns with the broker, so that a ratio says something
whatever the machine is. Run it on a machine that does nothing else.
"""

import sys

from bench.command import OUT, Command
from bench.data import push, transfer
from bench.data.extent import FULL, QUICK

COMMAND = Command(
    module="bench.data",
    about=__doc__.partition("\n")[0],
    title="Data in and out on this machine",
    out=OUT / "data.json",
    groups={
        "transfer": ("large files in and out, and nginx's ...", transfer.measure),
        "push": ("bulk push with targets and without ...", push.measure),
    },
    full=FULL,
    quick=QUICK,
    limit_s=900,
)

if __name__ == "__main__":
    sys.exit(COMMAND.main())
