"""Servers that researchers have: nginx for files and plain PUT, wsgidav for WebDAV. Each on a free port of loopback."""

import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.serving import make_server
from werkzeug.wsgi import get_input_stream
from wsgidav.wsgidav_app import WsgiDAVApp

from tests.support.grid import free_port
from tests.support.waiting import wait_until

_NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port}; root {folder}/files; client_max_body_size 1g;
    location / {{ {demand} dav_methods PUT; create_full_put_path on; }}
  }}
}}
"""


@contextmanager
def nginx(folder: Path, token: str = "") -> Iterator[str]:
    """Serve `files` of the folder, which anybody may PUT to; with a `token`, whoever has it as bearer alone."""
    (folder / "files").mkdir()
    # Its workers are another account's where root starts it.
    folder.chmod(0o777)
    (folder / "files").chmod(0o777)
    port = free_port()
    configuration = folder / "nginx.conf"
    demand = f'if ($http_authorization != "Bearer {token}") {{ return 401; }}' if token else ""
    configuration.write_text(_NGINX.format(folder=folder, port=port, demand=demand))
    with subprocess.Popen(["/usr/sbin/nginx", "-c", configuration, "-g", "user root;"]) as server:
        try:
            wait_until(lambda: is_open(port), "nginx listens")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@contextmanager
def webdav(folder: Path) -> Iterator[str]:
    """Serve the folder by WebDAV; whoever it is may write."""
    app = WsgiDAVApp(
        {
            "provider_mapping": {"/": str(folder)},
            "simple_dc": {"user_mapping": {"*": True}},
            "logging": {"enable": False},
            "verbose": 0,
        }
    )

    def bounded(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        # wsgidav reads to the end of what it is given, which on a socket never comes.
        environ["wsgi.input"] = get_input_stream(environ)
        answer: Iterable[bytes] = app(environ, start)
        return answer

    server = make_server("127.0.0.1", 0, bounded, threaded=True)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def is_open(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
