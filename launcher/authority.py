"""The authority of the site's own that signed the broker's certificate, as a PEM file."""

import ssl
from pathlib import Path

MAX_BYTES = 48 * 1024
"""A guest is told it in one line of its port, which has at most 64 KiB. Source: docs/reference/guest-protocol.md."""


class NoAuthority(Exception):
    """The file cannot be used; the text says why."""


def read_authority(file: Path | None) -> str | None:
    """Return the PEM text of the broker's authority, checked; None without a file.

    Raises:
        NoAuthority: it cannot be read, or is no PEM file of an authority.
    """
    if file is None:
        return None
    try:
        pem = file.read_text(encoding="ascii")
        if len(pem) > MAX_BYTES:
            raise NoAuthority(f"ca_file: {file} has more than {MAX_BYTES} bytes: keep the one authority that is needed")
        ssl.create_default_context().load_verify_locations(cadata=pem)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise NoAuthority(f"ca_file: {file} is no PEM file of an authority: {reason}") from error
    return pem
