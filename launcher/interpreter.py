"""How to start this very Python once more, for the programs of its own that a launcher runs."""

import sys

from launcher.carried import carried


def own_python() -> tuple[str, ...]:
    """Return the words before `-I -S SCRIPT`: absolute paths, good without any environment.

    In a bundle, the interpreter asks for a loader that the node may lack or have older: it is started by the bundle's
    own, as the launcher was. Source: ld.so(8), "--library-path".
    """
    bundle = carried()
    if bundle is None:
        return (sys.executable,)
    return (str(bundle.loader), "--library-path", str(bundle.libraries), sys.executable)
