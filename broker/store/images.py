"""Images: who brought which one, which are named by no machine, and which are nobody's.

An image's bytes are visible through a grant alone, and stay while any user has one. A grant that no machine of its user
names is for a while that of a machine that is just being added, or of vms that still boot from an earlier revision.
"""

from typing import NamedTuple

from broker.domain.errors import Conflict, Rejected
from broker.domain.limits import LIMITS
from broker.domain.quotas import images_full, too_many_images
from broker.store.arguments import ExpectImage, GrantImage, ReleaseImage
from broker.store.reading import Reading
from broker.store.records import rfc3339
from broker.store.scripts import Word
from broker.store.server import Reply
from broker.wire.machines import GrantedImage
from broker.wire.names import Digest, UserName, check_digest
from broker.wire.problems import ProblemCode

_SWEPT = 100
_LOOKED_AT = 1_000


class ImageRoom(NamedTuple):
    """What a user's images take, and may take."""

    images: int
    bytes: int
    most_bytes: int


class ImageGrants(Reading):
    async def expect_image(self, digest: Digest) -> None:
        """Note that an image's bytes are about to be kept: they are nobody's until they are granted. Idempotent."""
        await self._server.act(ExpectImage(digest), grants=self._keys.grants, ungranted=self._keys.ungranted)

    async def grant_image(self, user: UserName, digest: Digest, size_bytes: int) -> None:
        """Note that the user brought all bytes of an image: only then may their machines name it. Idempotent.

        Raises:
            Rejected: `quota_exceeded`: they would have more images, or more bytes of them, than they may.
        """
        reply = await self._server.act(
            GrantImage(
                user=user,
                digest=digest,
                size_bytes=size_bytes,
                most_bytes=LIMITS["user_image_bytes"].default,
                most=LIMITS["user_images"].default,
            ),
            images=self._keys.images(user),
            grants=self._keys.grants,
            ungranted=self._keys.ungranted,
            unnamed=self._keys.unnamed,
            account=self._keys.account(user),
        )
        if reply.word == Word.FULL:
            of, most = reply.values
            raise images_full(user, int(most)) if of == "image_bytes" else too_many_images(user, int(most))

    async def image_room(self, user: UserName) -> ImageRoom:
        """Return how many images, and bytes of them, a user has, and how many bytes they may have."""
        sizes, most = await self._server.commands(
            [("HVALS", self._keys.images(user)), ("HGET", self._keys.account(user), "most:image_bytes")]
        )
        most_bytes = int(most) if most is not None else LIMITS["user_image_bytes"].default
        return ImageRoom(len(sizes), sum(int(size) for size in sizes), most_bytes)

    async def image_size(self, user: UserName, digest: Digest) -> int | None:
        """Return the size of an image granted to the user; None for any other, whether it exists or not."""
        size = await self._server.command("HGET", self._keys.images(user), digest)
        return int(size) if size is not None else None

    async def list_images(self, user: UserName) -> list[GrantedImage]:
        """Return the images granted to the user, by digest."""
        sizes = await self._server.command("HGETALL", self._keys.images(user))
        names = sorted(await self._server.command("SMEMBERS", self._keys.machines(user)))
        of = self._keys.machines_of(user)
        listed = await self._server.commands([("HGET", f"{of}{name}", "images") for name in names])
        digests = sorted(sizes)
        since_ms = await self._server.commands([("ZSCORE", self._keys.unnamed, f"{user}/{each}") for each in digests])
        return [
            GrantedImage(
                digest=digest,
                size_bytes=int(sizes[digest]),
                machines=[name for name, images in zip(names, listed, strict=True) if digest in (images or "").split()],
                unnamed_since=rfc3339(int(float(at_ms))) if at_ms is not None else None,
            )
            for digest, at_ms in zip(digests, since_ms, strict=True)
        ]

    async def delete_image(self, user: UserName, digest: Digest) -> None:
        """Take the user's grant of an image back.

        Raises:
            Rejected: `not_found`: it is not granted to them.
            Conflict: `image_in_use`: one of their machines names it.
        """
        reply = await self._release(user, digest, keep_ms=0)
        if reply.word == Word.MISSING:
            raise Rejected(ProblemCode.NOT_FOUND, f"there is no image {digest}, or it is not yours")
        if reply.word == Word.NAMED:
            name = str(reply.values[0])
            raise Conflict(
                ProblemCode.IMAGE_IN_USE,
                f"your machine {name} names {digest}: give {name} another image, or remove it, first",
            )

    async def release_image(self, user: UserName, digest: Digest, *, keep_ms: int) -> None:
        """Take the user's grant of an image back, if no machine of theirs named it for `keep_ms`."""
        await self._release(user, digest, keep_ms)

    async def unnamed_images(self) -> list[tuple[UserName, Digest]]:
        """Return some grants of images that no machine may name, those that are so for longest first."""
        found = await self._server.command("ZRANGE", self._keys.unnamed, 0, _LOOKED_AT - 1)
        pairs = (str(owned).split("/", 1) for owned in found)
        return [(UserName(user), check_digest(digest)) for user, digest in pairs]

    async def ungranted_images(self) -> list[Digest]:
        """Return some images that were nobody's any more when their last grant went; look again before removing one."""
        found = await self._server.command("SRANDMEMBER", self._keys.ungranted, _SWEPT)
        return [check_digest(digest) for digest in found]

    async def is_ungranted(self, digest: Digest) -> bool:
        """Tell whether nobody is granted the image; true until its bytes are `forgotten`."""
        return bool(await self._server.command("SISMEMBER", self._keys.ungranted, digest))

    async def forget_image(self, digest: Digest) -> None:
        """Note that the bytes of an ungranted image are gone."""
        await self._server.command("SREM", self._keys.ungranted, digest)

    async def _release(self, user: UserName, digest: Digest, keep_ms: int) -> Reply:
        return await self._server.act(
            ReleaseImage(user=user, digest=digest, keep_ms=keep_ms),
            machines=self._keys.machines(user),
            machines_of=self._keys.machines_of(user),
            images=self._keys.images(user),
            grants=self._keys.grants,
            ungranted=self._keys.ungranted,
            unnamed=self._keys.unnamed,
        )
