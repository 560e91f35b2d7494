"""A certificate authority of a test's own, and files of servers that it vouches for."""

import ssl
from pathlib import Path

from tests.support import certificates


class Authority:
    """`ca_pem` is what its clients are to trust."""

    def __init__(self) -> None:
        self._own = certificates.authority("the tests' authority")
        self.ca_pem = self._own.pem.decode()

    def server_context(self, folder: Path, *hosts: str) -> ssl.SSLContext:
        """Return the server's side for these names and addresses; its files lie in `folder`."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.server_files(folder, *hosts))
        return context

    def server_files(self, folder: Path, *hosts: str) -> Path:
        """Write a key and a certificate for these names and addresses into one PEM file of `folder`; return it."""
        made = certificates.server(self._own, *hosts)
        file = folder / f"{hosts[0]}.pem"
        file.write_bytes(made.key_pem + made.pem)
        return file
