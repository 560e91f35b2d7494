"""The port: sockets on one address, one for each process that serves on it, and TLS.

Several processes each have a socket of their own on the port (SO_REUSEPORT), among which the kernel spreads connections
evenly. Their parent binds all of them and keeps them open, so that a process that died loses none that waited for it:
whoever takes its place finds them. ADR 0012 says what was measured.
"""

import socket
import ssl
from pathlib import Path

from broker.settings import Address


class CannotServe(Exception):
    """The broker cannot start, or not go on; its text says what to do."""


def bound_sockets(address: Address, count: int) -> list[socket.socket]:
    """Bind `count` sockets to one address; with port 0 all to the same free port.

    Raises:
        CannotServe: somebody else listens there, or nobody can.
    """
    # What others share the port with is seen only by one that does not share it.
    probe = _bound(address, is_shared=False)
    if count == 1:
        return [probe]
    sockets: list[socket.socket] = []
    try:
        bound_to = address._replace(port=probe.getsockname()[1])
        sockets.extend(_bound(bound_to, is_shared=True) for _ in range(count))
    except BaseException:
        for each in sockets:
            each.close()
        raise
    finally:
        probe.close()
    return sockets


def _bound(address: Address, *, is_shared: bool) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotServe(f"cannot listen on {address}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(where)
    except OSError as error:
        listener.close()
        raise CannotServe(f"cannot listen on {address}: {error.strerror}; choose another --listen") from error
    return listener


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return what serves with the certificate, None without one.

    Raises:
        CannotServe: the files are no certificate and its key.
    """
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise CannotServe(f"the certificate {certificate} and its key cannot be used: {error}") from error
    return context
