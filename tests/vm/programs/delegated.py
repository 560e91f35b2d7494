#!/usr/bin/python3
"""Usage: delegated OUTPUT. Goes to a server that demands a client's certificate: without one, then with the proxy."""

import base64
import http.client
import os
import ssl
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

output, proxy = Path(sys.argv[1]), os.environ["X509_USER_PROXY"]
port, authority = int(os.environ["VMBROKER_PARAM_PORT"]), os.environ["VMBROKER_PARAM_AUTHORITY"]


def asked(path: str, certificate: str | None) -> str:
    way = urlsplit(os.environ["https_proxy"])
    context = ssl.create_default_context(cadata=authority)
    if certificate is not None:
        context.load_cert_chain(certificate)
    connection = http.client.HTTPSConnection(way.hostname or "", way.port, context=context, timeout=120)
    key = base64.b64encode(f"{unquote(way.username or '')}:{way.password}".encode()).decode()
    connection.set_tunnel("127.0.0.1", port, {"Proxy-Authorization": f"Basic {key}"})
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException) as error:
        return f"refused: {error}"
    finally:
        connection.close()


folder = Path(os.environ["VMBROKER_SECRETS"])
mounted = [line.split() for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == str(folder)]
seen = {
    "without": asked("/", None),
    "with": asked("/", proxy),
    "account": str(os.geteuid()),
    "folder": f"{folder.stat().st_mode & 0o777:o} {folder.stat().st_uid}",
    "file": f"{Path(proxy).stat().st_mode & 0o777:o} {Path(proxy).stat().st_uid}",
    "file system": " ".join(each[2] for each in mounted),
    "files": " ".join(sorted(path.name for path in folder.iterdir())),
    "held": asked("/hold", proxy),
}
(output / "seen").write_text("".join(f"{name}: {what}\n" for name, what in seen.items()))
print("the licence is", Path(os.environ["VMBROKER_SECRET_LICENCE"]).read_text(), "and no other")
