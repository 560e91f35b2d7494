"""Images: taken in whole, handed out to those they were granted to, removed when they are nobody's."""

from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from broker.domain.errors import Rejected
from broker.domain.quotas import images_full, too_many_images
from broker.files.images import Images
from broker.http.call import Call, Services, json_answer, limit
from broker.http.contract import BYTES, NOTHING, PARTS, operation
from broker.http.parameters import IF_NONE_MATCH, RANGE, REPR_DIGEST
from broker.http.sending import send_file
from broker.wire.machines import GrantedImage, ImageView
from broker.wire.names import Digest, UserName
from broker.wire.problems import ProblemCode


@operation(
    takes=BYTES,
    answers={201: ImageView},
    problems=(ProblemCode.DIGEST_MISMATCH, ProblemCode.TOO_LARGE, ProblemCode.QUOTA_EXCEEDED),
)
async def put_image(call: Call) -> web.Response:
    """Take an image in, prove its digest, and let its sender use it."""
    digest, user, services = call.digest, UserName(call.who.subject), call.services
    left = await room_left(services, user, digest)
    open_bytes = sum(each.size_bytes for each in await services.uploads.unfinished(user))
    announced_bytes = call.request.content_length or 0
    with services.images.arriving(user) as arriving:

        async def admit(size_bytes: int) -> None:
            arriving.grow_to(max(size_bytes, announced_bytes))
            left.check(open_bytes)

        await admit(0)
        with call.large_body() as body:
            async with services.images.received(digest, body, admit) as received:
                await become_image(services, user, digest, received.path, received.size_bytes)
    return json_answer(ImageView(digest=digest, size_bytes=received.size_bytes), status=201)


@operation(answers=list[GrantedImage])
async def list_images(call: Call) -> web.Response:
    return json_answer(await call.services.store.list_images(UserName(call.who.subject)))


@operation(answers={204: NOTHING}, problems=(ProblemCode.IMAGE_IN_USE,))
async def delete_image(call: Call) -> web.Response:
    """Give up an image that none of the sender's machines names; its bytes go when they are nobody's then."""
    await call.services.store.delete_image(UserName(call.who.subject), call.digest)
    await remove_ungranted(call.services)
    return web.Response(status=204)


@operation(
    answers=PARTS,
    problems=(ProblemCode.RANGE_NOT_SATISFIABLE,),
    parameters=(RANGE, IF_NONE_MATCH),
    sends=(REPR_DIGEST,),
)
async def get_image(call: Call) -> web.StreamResponse:
    """Send an image to somebody it was granted to, or to whom a launcher's signed address was given."""
    digest = call.digest
    if call.principal is not None and not await is_granted(call, UserName(call.principal.subject), digest):
        raise Rejected(ProblemCode.NOT_FOUND, f"there is no image {digest}, or it is not yours: upload it")
    if not await call.services.images.is_there(digest):
        raise Rejected(ProblemCode.NOT_FOUND, f"the image {digest} is no longer there: upload it again")
    location = call.services.images.location(digest)
    return send_file(call.request, location, name=digest.removeprefix("sha256:"), digest=digest)


@dataclass(frozen=True, slots=True)
class RoomLeft:
    """What a user's images may take beside those that they have; one more of them is on its way."""

    images: Images
    user: UserName
    taken_bytes: int
    most_bytes: int

    def check(self, open_bytes: int) -> None:
        """Return when there is room for all that arrives, and for what uploads in parts will have.

        Raises:
            Rejected: `quota_exceeded`.
        """
        if self.taken_bytes + open_bytes + self.images.arriving_bytes(self.user) > self.most_bytes:
            raise images_full(self.user, self.most_bytes)


async def room_left(services: Services, user: UserName, digest: Digest) -> RoomLeft:
    """Look at what room a user has for an image, which is not counted twice when it is theirs already.

    Raises:
        Rejected: `quota_exceeded`: they have as many images as they may.
    """
    room, granted_bytes = await services.store.image_room(user), await services.store.image_size(user, digest)
    if granted_bytes is None and room.images >= limit("user_images"):
        raise too_many_images(user, limit("user_images"))
    return RoomLeft(services.images, user, room.bytes - (granted_bytes or 0), room.most_bytes)


async def is_granted(call: Call, user: UserName, digest: Digest) -> bool:
    return await call.services.store.image_size(user, digest) is not None


async def become_image(services: Services, user: UserName, digest: Digest, proved: Path, size_bytes: int) -> None:
    """Keep a file, whose bytes were proved, as an image of the user's.

    It may fail at any point: repeating it goes on, and bytes that were kept and not granted are found by the sweep.

    Raises:
        Rejected: `quota_exceeded`; nothing of it is kept.
    """
    async with services.images.settling():
        await services.store.expect_image(digest)
        await services.images.keep(digest, proved)
        try:
            await services.store.grant_image(user, digest, size_bytes)
        except Rejected:
            await _remove_if_ungranted(services, digest)
            raise
        await services.images.seal(digest)


async def release_unnamed(services: Services, *, keep_ms: int) -> None:
    """Take grants back of images that no machine of their user named for `keep_ms`.

    Not from somebody who is uploading: what is on its way may be the last disk of a machine with several.
    """
    for user, digest in await services.store.unnamed_images():
        if not await services.uploads.unfinished(user):
            await services.store.release_image(user, digest, keep_ms=keep_ms)


async def remove_ungranted(services: Services) -> None:
    """Remove the bytes of images that nobody is granted any more."""
    for digest in await services.store.ungranted_images():
        async with services.images.settling():
            await _remove_if_ungranted(services, digest)


async def _remove_if_ungranted(services: Services, digest: Digest) -> None:
    """Remove the bytes of an image that is nobody's, while images settle."""
    if await services.store.is_ungranted(digest):
        await services.images.remove(digest)
        await services.store.forget_image(digest)
