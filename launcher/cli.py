"""The `launcher` command."""

import sys

from launcher.carried import BadBundle, carried


def main() -> None:
    """Run the command; without what it needs installed, or in a broken bundle, say so in one sentence.

    Each command imports what it needs when it is called: where launchers are only submitted, less is installed.
    """
    try:
        carried()
        from launcher.commands import app

        app()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"broker", "launcher"}:
            raise
        print(
            f"launcher: {error.name} is not installed; install the launcher's extra: pip install 'vmbroker[launcher]'",
            file=sys.stderr,
        )
        sys.exit(2)
    except BadBundle as error:
        print(f"launcher: {error}", file=sys.stderr)
        sys.exit(2)
