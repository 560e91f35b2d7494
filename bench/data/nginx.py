"""nginx as it is packaged, with its module that takes a PUT: one process, as the broker is one.

A PUT appears by a rename, as in the broker. Unlike the broker's it is neither hashed nor made durable, counts for
nobody's quota and needs no proof of who asks.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.broker.drive import Address
from bench.broker.ground import child, listens, wait_for
from bench.failing import BenchFailed
from tests.support.grid import free_port

# Source: nginx.org/en/docs, ngx_core_module, ngx_http_core_module, ngx_http_dav_module. Everything that it would write
# is put into the folder. A body is read by 1 MiB: by the 16 KiB that are its default it takes longer.
_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_max_body_size 0;
    client_body_buffer_size 1m;
    client_body_temp_path {folder}/client;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
        location / {{ dav_methods PUT DELETE; }}
    }}
}}
"""


@contextmanager
def nginx(folder: Path) -> Iterator[Address]:
    """Run nginx for the block; its files are in `folder`/files, and go with it."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise BenchFailed("there is no nginx: run `deploy/setup/system-packages bench`")
    (folder / "files").mkdir(parents=True)
    port, log, configuration = free_port(), folder / "output.log", folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, port=port))
    words = [program, "-p", str(folder), "-c", str(configuration), "-e", "stderr"]
    with child(words, log) as process:
        wait_for(lambda: listens(port), process, log)
        yield ("127.0.0.1", port)
    shutil.rmtree(folder)
