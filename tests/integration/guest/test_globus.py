"""globus-url-copy, behind the plugin of the how-to, against Globus' own server, through the launcher's proxy."""

import asyncio
import re
import socket
from contextlib import suppress
from pathlib import Path

from broker.client.origins import Origin
from guest.exits import Exit
from launcher.exchange.proxy import Proxy
from tests.integration.guest.edge import EdgeBroker, started_guest
from tests.support.ftp_servers import gridftp
from tests.support.grid import REPOSITORY, free_ports
from tests.support.launching import short_folder

PAGE = (REPOSITORY / "docs/how-to/other-schemes.md").read_text()


async def test_input_and_output_go_by_globus_url_copy_through_the_proxy(broker: EdgeBroker, tmp_path: Path) -> None:
    (script,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    plugin = tmp_path / "globus"
    plugin.write_text(script)
    plugin.chmod(0o755)
    content = bytes(range(256)) * 1000
    broker.plugins = {"ftp": str(plugin)}
    broker.input_bytes = b"not used"
    broker.run = 'sh -c \'cp "{input}" "{output}/out put"\''
    data_ports = free_ports(10)

    with (
        short_folder("vg-") as store,  # the server acts as nobody, whom pytest's folders let pass only by chance
        gridftp(data_ports) as url,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        store.chmod(0o777)
        (store / "in").write_bytes(content)
        broker.other_place = f"{url}{store}"
        allowed = {Origin("127.0.0.1", port) for port in (broker.port, int(url.rpartition(":")[2]), *data_ports)}
        proxy = Proxy(allowed)
        grant = proxy.admit("vm", allowed)
        serving = asyncio.create_task(proxy.serve(listener))
        way = grant.proxy_url(listener.getsockname()[1]).replace("10.0.2.2", "127.0.0.1")
        async with started_guest(broker.url, tmp_path / "run", proxy=way) as guest:
            code = await guest.wait()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving

        assert code == Exit.COMPLETED, "\n".join([*guest.end.logs, str(broker.failed)])
        assert (store / "out put").read_bytes() == content
    assert grant.bytes_in > 256_000 < grant.bytes_out
