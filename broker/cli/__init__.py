"""The `broker` command.

Exit statuses: 0 done; 1 something failed, or an item is held; 2 wrong usage or settings; 3 no broker answered;
4 the broker refused; 130 interrupted.
"""

import sys


def main() -> None:
    """Run the command; without the broker's extra installed, say so in one sentence."""
    try:
        from broker.cli.commands import app  # what it needs may not be installed

        app()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"broker", "launcher"}:
            raise
        print(
            f"broker: {error.name} is not installed; install the broker's extra: pip install 'vmbroker[broker]'",
            file=sys.stderr,
        )
        sys.exit(2)
