"""Names of files as people write them: `file:USER/PATH`, or a path of one's own."""

from broker.cli.acting import Acting
from broker.cli.exits import BadUsage
from broker.domain.paths import FILE_SCHEME, BadPath, parse_file_path, parse_folder_path


def file_name(acting: Acting, name: str) -> str:
    """Return USER/PATH of `file:USER/PATH`, or of a path of one's own.

    Checked here, because a URL's `..` would be resolved on the way: the bytes would end up under another name.
    """
    try:
        return str(parse_file_path(_full(acting, name)))
    except BadPath as error:
        raise BadUsage(str(error)) from error


def folder_name(acting: Acting, name: str) -> str:
    """Return USER/PATH/ of a folder, with or without its slash; `` and `/` are all that is one's own."""
    full = _full(acting, name)
    try:
        return str(parse_folder_path(full if full.endswith("/") else f"{full}/"))
    except BadPath as error:
        raise BadUsage(str(error)) from error


def _full(acting: Acting, name: str) -> str:
    name.encode()  # before it is judged as a path: the fault of a name that is no UTF-8 is that it is none
    if name.startswith(FILE_SCHEME):
        return name.removeprefix(FILE_SCHEME)
    return f"{acting.user}/{name.lstrip('/')}"
