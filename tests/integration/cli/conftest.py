import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.api import IMAGE, XML, Api
from tests.support.grid import Broker, Home, free_port
from tests.support.typed import Typed


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Typed(tmp_path_factory.mktemp("b"))


@pytest.fixture(scope="module")
def broker(home: Home) -> Iterator[Broker]:
    """A broker with machine m; every test has a stream of its own."""
    broker = Broker(home, free_port())
    with broker.serving():
        xml, image = home.folder / "m.xml", home.folder / "m.img"
        xml.write_text(XML)
        image.write_bytes(IMAGE)
        home.ok("broker", "machine", "add", "m", str(xml), "--disk", f"vda={image}")
        yield broker


@pytest.fixture
def stream(request: pytest.FixtureRequest, broker: Broker, home: Home) -> str:
    """A stream named after its test."""
    name = str(request.node.originalname).removeprefix("test_")[:40].replace("_", "-")
    home.ok("broker", "stream", "add", name, "--machine", "m", "--run", "/opt/app/run")
    return name


@pytest.fixture
async def launcher(broker: Broker) -> AsyncIterator[Api]:
    """A launcher's calls."""
    login = json.loads(Path(broker.home.folder / "config/vmbroker/launcher.json").read_text())
    async with aiohttp.ClientSession() as http:
        yield Api(http, login["url"], login["token"])


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What the tests start heeds Ctrl-C, even when they themselves run in the background and do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
