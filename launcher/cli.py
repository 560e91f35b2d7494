"""The `launcher` command."""

import sys

from launcher.carried import BadBundle, carried


def main() -> None:
    """Run the command; without the launcher's extra installed, or in a broken bundle, say so in one sentence."""
    try:
        carried()
        from launcher.commands import app
    except ModuleNotFoundError as error:
        print(
            f"launcher: {error.name} is not installed; install the launcher's extra: pip install 'vmbroker[launcher]'",
            file=sys.stderr,
        )
        sys.exit(2)
    except BadBundle as error:
        print(f"launcher: {error}", file=sys.stderr)
        sys.exit(2)
    app()
