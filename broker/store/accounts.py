"""Users as the broker keeps them: their weight in fair shares, what they have, and what they may have."""

from broker.domain.errors import Rejected
from broker.domain.limits import LIMITS
from broker.domain.prefixes import MAX_PREFIXES, check_prefix
from broker.store.reading import Reading
from broker.wire.accounts import UserSettings, UserView
from broker.wire.names import UserName

_BOUNDED = {
    "items": "user_items",
    "bytes": "user_bytes",
    "streams": "user_streams",
    "file_bytes": "user_file_bytes",
    "image_bytes": "user_image_bytes",
}
"""What is bounded for each user, and the limit that holds for everybody."""


class Accounts(Reading):
    async def get_user(self, user: UserName) -> UserView:
        """Return a user's share, what they have and may have; one that was never here has nothing."""
        account, streams, images = await self._server.commands(
            [
                ("HGETALL", self._keys.account(user)),
                ("SCARD", self._keys.streams(user)),
                ("HVALS", self._keys.images(user)),
            ]
        )
        most = {name: int(account.get(f"most:{name}", LIMITS[limit].default)) for name, limit in _BOUNDED.items()}
        return UserView(
            user=user,
            weight=int(account.get("weight", 1)),
            items=int(account.get("items", 0)),
            most_items=most["items"],
            bytes=int(account.get("bytes", 0)),
            most_bytes=most["bytes"],
            streams=int(streams),
            most_streams=most["streams"],
            file_bytes=int(account.get("file_bytes", 0)),
            most_file_bytes=most["file_bytes"],
            image_bytes=sum(int(size) for size in images),
            most_image_bytes=most["image_bytes"],
            targets=tuple(account["targets"].split("\n")) if account.get("targets") else None,
        )

    async def put_user(self, user: UserName, settings: UserSettings) -> UserView:
        """Set a user's weight and bounds, at once; what is left out is as it is for everybody. Idempotent.

        Raises:
            Rejected: `bad_request`: a number that none can be.
        """
        bound = LIMITS["user_weight"]
        if not 1 <= settings.weight <= bound.default:
            raise Rejected(bound.problem, f"weight is a number from 1 to {bound.default}, not {settings.weight}")
        given = {name: getattr(settings, f"most_{name}") for name in _BOUNDED}
        wrong = [name for name, most in given.items() if most is not None and not 0 <= most < 1 << 50]
        if wrong:
            raise Rejected(bound.problem, f"most_{wrong[0]} is {given[wrong[0]]}: write 0 or more")
        for prefix in settings.targets or ():
            check_prefix(prefix)
        if settings.targets is not None and not 1 <= len(settings.targets) <= MAX_PREFIXES:
            detail = f"targets: {len(settings.targets)} prefixes: write 1 to {MAX_PREFIXES}, or none for anywhere"
            raise Rejected(bound.problem, detail)
        key = self._keys.account(user)
        said = {f"most:{name}": int(most) for name, most in given.items() if most is not None}
        unsaid = [f"most:{name}" for name, most in given.items() if most is None]
        fields = [part for pair in said.items() for part in pair]
        if settings.targets is None:
            unsaid.append("targets")
        else:
            fields += ["targets", "\n".join(settings.targets)]
        await self._server.commands(
            [("HSET", key, "weight", settings.weight, *fields), *([("HDEL", key, *unsaid)] if unsaid else [])],
            atomic=True,
        )
        return await self.get_user(user)
