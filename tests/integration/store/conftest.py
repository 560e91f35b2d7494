import pytest

from broker.store import Store
from tests.integration.store.scene import Scene


@pytest.fixture
async def scene(store: Store) -> Scene:
    return await Scene(store).set_up()
