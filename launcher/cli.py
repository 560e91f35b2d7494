"""The `launcher` command."""

import sys


def main() -> None:
    """Run the command; without the launcher's extra installed, say so in one sentence."""
    try:
        from launcher.commands import app
    except ModuleNotFoundError as error:
        print(
            f"launcher: {error.name} is not installed; install the launcher's extra: pip install 'vmbroker[launcher]'",
            file=sys.stderr,
        )
        sys.exit(2)
    app()
