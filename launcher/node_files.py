"""Where a site's administrator finds what this launcher brings for a node: deploy/node, however it was installed."""

from pathlib import Path
from typing import Final

from launcher.carried import carried

IN_BUNDLE: Final = "share/node"
_IN_WHEEL: Final = "deploy_node"


def node_files() -> Path:
    """Return the folder of the packages' lists, the rules and the example of a site's file."""
    bundle = carried()
    if bundle is not None:
        return bundle.folder / IN_BUNDLE
    package = Path(__file__).resolve().parent
    installed = package / _IN_WHEEL
    return installed if installed.is_dir() else package.parent / "deploy" / "node"
