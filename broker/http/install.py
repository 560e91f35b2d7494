"""`GET /guest/install`: the script that puts the stub into a running machine."""

from aiohttp import web

from broker.desktop.stub import install_script
from broker.http.call import Call
from broker.http.contract import octets, operation


@operation(answers=octets("text/x-shellscript"))
async def get_install_script(_: Call) -> web.Response:
    """Serve the script; no token, since it holds no secret and a machine before its first run has none."""
    return web.Response(
        text=install_script(), content_type="text/x-shellscript", charset="utf-8", headers={"Cache-Control": "no-cache"}
    )
