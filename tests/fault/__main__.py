"""The long form of the fault test: `python -m tests.fault --minutes 10 [--seed N] [--histories FOLDER]`."""

import argparse
import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

from tests.fault.checker import check
from tests.fault.scene import run


def main() -> int:
    """Run as long as is asked, print what happened and what is wrong; 1 when something is."""
    parser = argparse.ArgumentParser(description="Real processes, a saboteur among them, and a checker afterwards.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--histories", type=Path, help="empty folder to keep the histories in")
    asked = parser.parse_args()
    histories: Path = asked.histories or Path(tempfile.mkdtemp(prefix="vf-histories-"))
    histories.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(f"seed {asked.seed}, {asked.minutes:g} minutes, histories in {histories}\n")
    evidence = asyncio.run(run(asked.seed, asked.minutes * 60, histories))
    faults = check(evidence)
    sys.stdout.write(evidence.summary() + "\n")
    sys.stdout.write("".join(f"{fault}\n" for fault in faults) or "no fault was found\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
