"""Images: taken in whole, handed out to those they were granted to, removed when they are nobody's."""

from aiohttp import web

from broker.domain.errors import Rejected
from broker.http.call import Call, Services, json_answer
from broker.http.sending import send_file
from broker.wire.machines import ImageView
from broker.wire.names import Digest, UserName
from broker.wire.problems import ProblemCode


async def put_image(call: Call) -> web.Response:
    """Take an image in, prove its digest, and let its sender use it."""
    digest, user = call.digest, UserName(call.who.subject)

    async def grant(size_bytes: int) -> None:
        await call.services.store.grant_image(user, digest, size_bytes)

    size_bytes = await call.services.images.put(digest, call.chunks(), grant)
    return json_answer(ImageView(digest=digest, size_bytes=size_bytes), status=201)


async def get_image(call: Call) -> web.StreamResponse:
    """Send an image to somebody it was granted to, or to whom a launcher's signed address was given."""
    digest = call.digest
    if call.principal is not None and not await is_granted(call, UserName(call.principal.subject), digest):
        raise Rejected(ProblemCode.NOT_FOUND, f"there is no image {digest}, or it is not yours: upload it")
    if not await call.services.images.is_there(digest):
        raise Rejected(ProblemCode.NOT_FOUND, f"the image {digest} is no longer there: upload it again")
    location = call.services.images.location(digest)
    return send_file(call.request, location, name=digest.removeprefix("sha256:"), digest=digest)


async def is_granted(call: Call, user: UserName, digest: Digest) -> bool:
    return await call.services.store.image_size(user, digest) is not None


async def remove_ungranted(services: Services) -> None:
    """Remove the bytes of images that nobody is granted any more."""
    for digest in await services.store.ungranted_images():
        async with services.images.settling():
            if await services.store.is_ungranted(digest):
                await services.images.remove(digest)
                await services.store.forget_image(digest)
