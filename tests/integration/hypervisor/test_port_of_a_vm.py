import asyncio
from pathlib import Path

import pytest

from broker.wire.port import PORT_NAME, Welcome
from launcher.exchange.port import GuestPort
from launcher.hypervisor.account import Account
from launcher.hypervisor.hypervisor import Hypervisor
from launcher.hypervisor.private_daemon import PrivateDaemon
from tests.integration.hypervisor.guests import IDLE, Guest

LIMIT_S = 30


def make_welcome() -> Welcome:
    raise AssertionError("nobody said hello")


@pytest.mark.vm
async def test_the_port_of_a_running_vm_opens_and_closes_with_it(
    daemon: PrivateDaemon, hypervisor: Hypervisor, scratch: Path, account: Account
) -> None:
    guest = Guest(IDLE)
    path = daemon.socket_folder / f"{guest.uuid}.port"
    channel = (
        f"<channel type='unix'><source mode='bind' path='{path}'/><target type='virtio' name='{PORT_NAME}'/></channel>"
    )
    xml = guest.on_file(guest.make_disk(scratch, account)).replace("</devices>", f"{channel}</devices>")
    vm = await hypervisor.start_vm(xml)
    async with GuestPort(path) as port:
        serving = asyncio.create_task(port.serve(make_welcome))
        await hypervisor.destroy(vm.uuid)
        async with asyncio.timeout(LIMIT_S):
            await serving
        assert not port.greeted.is_set()
