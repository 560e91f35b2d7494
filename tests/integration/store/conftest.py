import pytest

from broker.store import Store
from tests.integration.store.owed import TOLD
from tests.integration.store.scene import Scene


@pytest.fixture
async def scene(store: Store) -> Scene:
    return await Scene(store).set_up()


@pytest.fixture
async def told(store: Store) -> Scene:
    scene = await Scene(store).set_up(TOLD)
    await scene.prove()
    return scene
