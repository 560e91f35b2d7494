"""A store with a stream whose settled items are told to a receiver, and what delivers them."""

import base64
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from broker.auth.keys import BrokerKeys, load_keys
from broker.client.outgoing import OutgoingClient
from broker.store import Store
from broker.store.answers import OwedCallback
from broker.wire.callbacks import Callback
from broker.wire.events import Event
from broker.wire.names import OwnedName
from broker.wire.secrets import SecretKind
from tests.integration.store.scene import ALICE, RENDER, SPEC, Scene
from tests.support.authority import Authority
from tests.support.receivers import Receiver, receiving
from tests.support.stores import StoreServer, connected

EVENT = Event(
    id="1-7",
    source=f"/streams/{RENDER}",
    type="org.vmbroker.item.completed",
    time="2026-11-28T12:00:00.000Z",
    sequence="7".zfill(20),
    data={"fence": 3, "exit_code": 0},
    subject=f"{RENDER}/17",
)
BODY = msgspec.json.encode(EVENT)
OWED = OwedCallback("1-0", "evt_0123456789abcdef0123456789abcdef", RENDER, BODY, 1)


def new_key() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


@dataclass
class Broker:
    """What `deliver` acts with."""

    store: Store
    keys: BrokerKeys
    outgoing: OutgoingClient

    async def put_key(self, name: str, value: str, kind: SecretKind = SecretKind.WEBHOOK_KEY) -> None:
        def seal(version: int) -> str:
            return self.keys.sealing.seal(value.encode(), ALICE, name, str(version))

        await self.store.put_secret(OwnedName(ALICE, name), kind, len(value), seal)

    async def name(self, callback: Callback | None) -> None:
        """Give the stream a revision with this callback."""
        await self.store.put_stream(RENDER, msgspec.structs.replace(SPEC, callback=callback))


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def receiver(authority: Authority, tmp_path: Path) -> AsyncIterator[Receiver]:
    async with receiving(authority, tmp_path) as receiver:
        yield receiver


@pytest.fixture
async def broker(
    embedded_server: StoreServer, receiver: Receiver, authority: Authority, tmp_path: Path
) -> AsyncIterator[Broker]:
    async with (
        connected(embedded_server.url) as store,
        OutgoingClient([receiver.origin], authority.ca_pem) as outgoing,
    ):
        await Scene(store).set_up()
        broker = Broker(store, load_keys(tmp_path / "keys"), outgoing)
        await broker.put_key("hook", new_key())
        await broker.name(Callback(url=receiver.url, secrets=("hook",)))
        yield broker
