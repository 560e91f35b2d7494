from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.guest.edge import EdgeBroker
from tests.integration.guest.real_broker import Broker, real_broker


@pytest.fixture
async def broker() -> AsyncIterator[EdgeBroker]:
    broker = EdgeBroker()
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    async with real_broker(tmp_path) as broker:
        yield broker
