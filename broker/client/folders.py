"""Folders of the file service: what is in them, what goes, what is shared."""

from collections.abc import AsyncIterator
from urllib.parse import quote

from broker.client.session import Session
from broker.wire.files import EntryView, FolderView, Share, ShareView

_PAGE = "1000"


class Folders:
    """Names are `USER/PATH`, of folders `USER/PATH/`. Every method raises `ApiError` and `Unreachable`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def entries(self, folder: str, *, is_deep: bool = False) -> AsyncIterator[EntryView]:
        """Yield what is in a folder in the order of names, page by page; `is_deep`: every file below."""
        query = {"limit": _PAGE, "recursive": "1" if is_deep else "0"}
        while True:
            page = await self._session.call(
                "GET", f"/v1/files/{quote(folder, safe='/')}", answer=FolderView, query=query, timeout_s=120.0
            )
            for entry in page.entries:
                yield entry
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    async def delete(self, name: str) -> None:
        await self._session.send("DELETE", f"/v1/files/{quote(name, safe='/')}")

    async def share(self, name: str, *, life_s: int, is_write: bool) -> ShareView:
        """Have an address signed, of a file or of a folder."""
        body = Share(life_s=life_s, is_write=is_write)
        return await self._session.call("POST", f"/v1/shares/{quote(name, safe='/')}", body=body, answer=ShareView)
