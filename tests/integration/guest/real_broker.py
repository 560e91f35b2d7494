"""A real broker, for clients as processes of this host."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from broker.app import running_broker
from broker.auth.keys import load_keys
from broker.auth.tokens import Tokens
from broker.client.dispatch import DispatchClient
from broker.client.files import Files, read_content
from broker.client.researcher import Researcher
from broker.client.session import Session
from broker.domain.scopes import scopes_of_launcher
from broker.settings import load_settings
from broker.wire.dispatches import DispatchAnswer, DispatchRequest, Room
from broker.wire.items import ItemView, NewItem
from broker.wire.machines import Disk, MachineDefinition
from broker.wire.names import ItemRef, MachineRef, StreamRef, UserName
from broker.wire.states import Accelerator
from broker.wire.streams import StreamSpec
from tests.integration.guest.edge import CURRENT_ACCOUNT
from tests.support import certificates
from tests.support.certificates import Credential

STREAM = StreamRef(UserName("alice"), "render")
XML = """
<domain type='kvm'>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os><type>hvm</type></os>
  <devices><disk type='file'><target dev='vda'/></disk></devices>
</domain>
"""


class Broker:
    """A broker with a machine, and the sessions of its first user and its first launcher."""

    def __init__(self, url: str, user: Session, launcher: Session) -> None:
        self.url = url
        self.researcher, self.files = Researcher(user), Files(user)
        self.dispatches = DispatchClient(launcher)

    async def push(
        self, run: str, url: str | None = None, *, script: str = "", as_user: str = CURRENT_ACCOUNT, **params: str
    ) -> ItemRef:
        spec = StreamSpec(machine="m", run=run, script=script, as_user=as_user)
        return await self.push_to(spec, NewItem(url=url, params=params))

    async def push_to(self, spec: StreamSpec, new: NewItem) -> ItemRef:
        await self.researcher.put_stream(STREAM, spec)
        [pushed] = [answer async for answer in self.researcher.push(STREAM, [new], uuid4().hex)]
        return ItemRef(STREAM, pushed.first)

    async def dispatch(self) -> DispatchAnswer:
        room = Room(vcpus=2, memory_mib=1024, disk_mib=100_000, accelerator=Accelerator.TCG)
        answer = await self.dispatches.dispatch(
            DispatchRequest(dispatch_key=uuid4().hex, launcher="l", node="n", room=room, wait_ms=10_000)
        )
        assert answer is not None
        return answer

    async def item(self, item: ItemRef) -> ItemView:
        return await self.researcher.item(item)


@asynccontextmanager
async def real_broker(
    tmp_path: Path,
    authority: Credential | None = None,
    labels: tuple[str, ...] = (),
    more: Mapping[str, Any] | None = None,
) -> AsyncIterator[Broker]:
    """Run a broker with a machine of alice's. `XDG_CONFIG_HOME` must be the folder's `config`: logins go there.

    With an `authority` it has a certificate of that; `labels` are those of the launcher's token; `more` are settings.
    """
    image = tmp_path / "image"
    image.write_bytes(b"an image")
    async with AsyncExitStack() as stack:
        told = {"data": tmp_path / "data", "listen": "127.0.0.1:0", "user": "alice", "heartbeat_s": 1}
        settings = load_settings(told | _certified(tmp_path, authority) | dict(more or {}))
        url = await stack.enter_async_context(running_broker(settings))
        ca_pem = None if authority is None else authority.pem.decode()

        async def logged_in(token: str) -> Session:
            return await stack.enter_async_context(Session(url, token=token, ca_pem=ca_pem))

        user = json.loads((tmp_path / "config/vmbroker/login.json").read_text())["token"]
        tokens = Tokens(load_keys(tmp_path / "data/keys"))
        launcher = tokens.issue("renci", scopes_of_launcher(), timedelta(hours=1), labels)
        broker = Broker(url, await logged_in(user), await logged_in(launcher))
        content = await read_content(image)
        await broker.files.put_image(image, content)
        disk = Disk(digest=content.digest, size_bytes=content.size_bytes)
        definition = MachineDefinition(domain_xml=XML, disks={"vda": disk})
        await broker.researcher.put_machine(MachineRef(UserName("alice"), "m"), definition)
        yield broker


def _certified(folder: Path, authority: Credential | None) -> dict[str, Any]:
    """Write a certificate for the broker; return the settings that name it."""
    if authority is None:
        return {}
    server, files = certificates.server(authority), {"tls_cert": folder / "cert.pem", "tls_key": folder / "key.pem"}
    files["tls_cert"].write_bytes(server.pem)
    files["tls_key"].write_bytes(server.key_pem)
    return files
