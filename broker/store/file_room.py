"""The room that users' files take: counted before the bytes come, and given back when they do not stay.

Files are on a disk and their count is in the store, so a broker that dies between the two leaves the count wrong, and
nearly always too high. The disk is what is true: what it holds is counted anew by the sweep, where nothing moves then.
"""

from broker.domain.limits import default
from broker.domain.quotas import files_full
from broker.store.arguments import FreeFile, RecountFiles, ReserveFile
from broker.store.reading import Reading
from broker.store.scripts import Word
from broker.wire.names import UserName


class FileRoom(Reading):
    async def reserve_file(self, user: UserName, more_bytes: int) -> None:
        """Take room for bytes of the user's files, at once for all that asks.

        Raises:
            Rejected: `quota_exceeded`; nothing was taken.
        """
        reply = await self._server.act(
            ReserveFile(more_bytes=more_bytes, most_bytes=default("user_file_bytes")), account=self._keys.account(user)
        )
        if reply.word == Word.FULL:
            raise files_full(user, int(reply.values[0]))

    async def free_file(self, user: UserName, less_bytes: int) -> None:
        """Give room back that the user's files do not take, or no more."""
        await self._server.act(FreeFile(less_bytes), account=self._keys.account(user))

    async def file_moves(self, user: UserName) -> int | None:
        """Return the number of times that the user's room moved; None when it was counted since it last did."""
        moves, counted = await self._server.command("HMGET", self._keys.account(user), "file_moves", "file_counted")
        return None if counted is not None and counted == (moves or "0") else int(moves or 0)

    async def recount_files(self, user: UserName, moves: int, size_bytes: int) -> bool:
        """Note what the user's files were found to take, unless the room moved since it had moved `moves` times."""
        reply = await self._server.act(
            RecountFiles(moves=moves, size_bytes=size_bytes), account=self._keys.account(user)
        )
        return reply.word == Word.DONE
