"""Servers of other schemes than a guest's own: plain FTP, and Globus' GridFTP. Each on a free port of loopback."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.grid import free_port
from tests.support.waiting import wait_until
from tests.support.web_servers import is_open


@contextmanager
def ftp(folder: Path) -> Iterator[str]:
    """Serve the folder by FTP; anybody may write."""
    port = free_port()
    address = ("-i", "127.0.0.1", "-p", str(port))
    with _serving([sys.executable, "-m", "pyftpdlib", "-w", *address, "-d", str(folder)], port):
        yield f"ftp://127.0.0.1:{port}"


@contextmanager
def gridftp(data_ports: Sequence[int]) -> Iterator[str]:
    """Serve this machine's files to anybody by GridFTP without certificates; its data connections take those ports."""
    port = free_port()
    where = ("-control-interface", "127.0.0.1", "-data-interface", "127.0.0.1", "-p", str(port))
    ports = ("-port-range", f"{min(data_ports)},{max(data_ports)}")
    with _serving(["globus-gridftp-server", "-s", "-aa", "-anonymous-user", "nobody", *where, *ports], port):
        yield f"ftp://127.0.0.1:{port}"


@contextmanager
def _serving(command: Sequence[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: is_open(port), f"{command[0]} listens")
            yield
        finally:
            server.terminate()
