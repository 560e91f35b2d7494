"""The application: services, middleware, routes, and the loops that run beside it."""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path

from aiohttp import web

from broker.auth.key_watch import keep_keys
from broker.auth.keys import BrokerKeys
from broker.auth.tokens import Tokens
from broker.auth.urls import SignedUrls
from broker.client.outgoing import OutgoingClient
from broker.domain import limits
from broker.domain.deadlines import DEFAULT, Deadlines
from broker.domain.turns import Turns
from broker.files.free_space import FreeSpace
from broker.files.images import Images
from broker.files.listing import Listings
from broker.files.s3_objects import S3Objects
from broker.files.tails import Tails
from broker.files.uploads import Uploads
from broker.files.user_files import UserFiles
from broker.http import connections, problems, uploads
from broker.http.bells import Bells
from broker.http.bodies import Bodies
from broker.http.bucket_urls import BucketUrls
from broker.http.call import SERVICES, Services
from broker.http.callback_tests import CallbackTests
from broker.http.offers import Offer
from broker.http.revocations import Revocations
from broker.http.roll_call import RollCall
from broker.http.routes import add_routes
from broker.http.sweeping import keep_swept
from broker.http.waiting import WaitingRoom
from broker.outside.keys import IssuerKeys
from broker.outside.tokens import OutsideTokens
from broker.store import Dispatched, Presence, Store


def make_services(
    store: Store,
    keys: BrokerKeys,
    folder: Path,
    public_url: str,
    *,
    space: FreeSpace,
    outgoing: OutgoingClient | None = None,
    bucket: tuple[S3Objects, BucketUrls] | None = None,
    outside: OutsideTokens | None = None,
    deadlines: Deadlines = DEFAULT,
) -> Services:
    """Put together what handlers act with; blobs are kept below `folder`, while there is `space`.

    Without `outside` no token is taken but the broker's own; with a `bucket`, users' files are there.
    `outgoing`, which is open, asks users' own S3 of outputs.
    """

    async def take(offer: Offer) -> list[Dispatched]:
        now = offer.as_of(asyncio.get_running_loop().time())
        return await store.dispatch(
            now.request, now.serves, labels=now.labels, bound=now.bound, is_heard=now.is_heard, rung_by=now.rung_by
        )

    async def hear(offers: Sequence[Offer]) -> Sequence[Presence]:
        return await store.hear_many([offer.request for offer in offers])

    revocations = Revocations(store)
    files = UserFiles(
        folder / "users",
        limit_bytes=limits.default("file_bytes"),
        space=space,
        counting=store,
        bucket=None if bucket is None else bucket[0],
    )
    waiting = WaitingRoom(take, hear, capacity=limits.default("waiting_dispatches"))
    return Services(
        store=store,
        tokens=Tokens(keys, public_url=public_url, is_revoked=revocations.includes),
        outside=outside or OutsideTokens((), IssuerKeys((), OutgoingClient())),
        revocations=revocations,
        keys=keys,
        urls=SignedUrls(keys.mac, public_url),
        outgoing=outgoing or OutgoingClient(),
        callback_tests=CallbackTests(),
        files=files,
        listings=Listings(files.records),
        images=Images(folder, limit_bytes=limits.default("image_bytes"), space=space),
        uploads=Uploads(
            folder,
            limit_bytes=limits.default("image_bytes"),
            most_open=limits.default("open_uploads"),
            space=space,
        ),
        tails=Tails(folder),
        bells=Bells(store),
        bodies=Bodies(),
        bucket=None if bucket is None else bucket[1],
        waiting=waiting,
        roll_call=RollCall(store, waiting),
        deadlines=deadlines,
    )


def make_app(services: Services) -> web.Application:
    """Build the application; a `Runner` answers what goes wrong in it, and `loops_of` have to run beside it."""
    app = web.Application(client_max_size=limits.default("request_bytes"))
    app[SERVICES] = services
    app.on_response_prepare.append(_mark_answer)
    app.on_shutdown.append(_let_waiters_go)
    add_routes(app)
    return app


def loops_of(services: Services, turns: Turns) -> tuple[Coroutine[None, None, None], ...]:
    """Return what has to run beside the application; when one of them crashes, the process must end."""
    return (
        services.bells.run(services.waiting.ring),
        services.waiting.run(),
        services.waiting.keep_heard(),
        services.roll_call.run(),
        services.revocations.run(),
        keep_keys(services.keys),
        keep_swept(services, turns),
    )


async def _mark_answer(request: web.Request, answer: web.StreamResponse) -> None:
    problems.mark_answer(request, answer)
    uploads.mark_answer(request, answer)
    connections.mark_answer(request, answer)


async def _let_waiters_go(app: web.Application) -> None:
    app[SERVICES].waiting.close()
    app[SERVICES].bells.close()
