import pytest
from aiohttp import web

from broker.cli.acting import Acting
from broker.cli.chunks import Common, chunks_of
from broker.cli.progress import progress
from broker.cli.pushing import Pushing, told
from broker.cli.sources import Source
from broker.client.errors import Unreachable
from broker.client.files import Files
from broker.client.researcher import Researcher
from broker.client.session import Patience, Session
from broker.wire.names import OwnedName, UserName
from tests.unit.client.test_session import serving

STREAM = OwnedName(UserName("alice"), "render")
ACCEPTED = {"stream": str(STREAM), "accepted": 500, "first": 1, "last": 500, "durability": "fsync"}


@pytest.mark.parametrize(
    ("answered", "note"),
    [
        (1, "500 of 501 items were pushed (alice/render/1 to alice/render/500); push again with --key K to go on"),
        (0, "it is not known whether items were pushed; push again with --key K, which adds none twice"),
    ],
)
async def test_a_push_that_loses_its_broker_tells_how_to_go_on(answered: int, note: str) -> None:
    keys: list[str] = []

    def handler(request: web.Request) -> web.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) > answered:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(ACCEPTED, status=201)

    sources = [Source(url=f"https://h.example/{number}") for number in range(501)]
    async with serving(handler) as url, Session(url, patience=Patience(attempts=2, first_delay_s=0.01)) as session:
        acting = Acting(session, Researcher(session), Files(session), "alice")
        pushing = Pushing(acting, STREAM, "K")
        with progress() as bars, pytest.raises(Unreachable) as lost:
            await pushing.run(chunks_of(acting, STREAM, sources, Common(), bars), lambda _: None)
        told(lost.value, pushing, 501)

    assert lost.value.__notes__ == [note]
    assert keys == ["K/0"] * answered + [f"K/{answered}"] * 2
