from collections.abc import AsyncIterator

import pytest

from tests.integration.guest.edge import EdgeBroker


@pytest.fixture
async def broker() -> AsyncIterator[EdgeBroker]:
    broker = EdgeBroker()
    await broker.start()
    yield broker
    await broker.stop()
