"""The launcher's calls: offer room, then tell what becomes of the vm."""

import time
from http import HTTPStatus

import msgspec

from broker.client.session import Patience, Session, Unreachable
from broker.wire.dispatches import (
    DispatchAnswer,
    DispatchExtend,
    DispatchExtended,
    DispatchRequest,
    EndVm,
    VmEnded,
    VmEvent,
)
from broker.wire.jobs import DemandPage, JobsReport
from broker.wire.launchers import LauncherReport, LauncherTold

_KEY_KNOWN_S = 3_300.0
"""The broker keeps a dispatch key for an hour; after that, a repeated one would be given another item."""
_BEYOND_WAIT_S = 15.0
"""How much longer than the wait itself an answer to an offer may take."""


class DispatchClient:
    """One method for each route; each is safe to repeat, and repeated as far as the `patience` goes.

    Every method raises `ApiError` when the broker refuses and `Unreachable` when no answer came.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked: dict[str, tuple[DispatchRequest, float]] = {}

    async def dispatch(self, request: DispatchRequest) -> DispatchAnswer | None:
        """Offer room and wait for an item; None when nothing came. A repeated `dispatch_key` gets the same item."""
        timeout_s = request.wait_ms / 1000 + _BEYOND_WAIT_S
        asked_at_s = time.monotonic()
        reply = await self._session.send("POST", "/v1/dispatch", body=msgspec.json.encode(request), timeout_s=timeout_s)
        if reply.status == HTTPStatus.NO_CONTENT:
            return None
        try:
            answer = msgspec.json.decode(reply.body, type=DispatchAnswer)
        except msgspec.DecodeError as error:
            raise Unreachable(f"{self._session.base_url} answers an offer with what no broker says: {error}") from error
        self._asked.setdefault(answer.dispatch, (request, asked_at_s))
        return answer

    async def again(self, dispatch: str) -> DispatchAnswer:
        """Return a dispatch that was given here and has not ended, with its addresses signed anew.

        Raises `Unreachable`, lasting, once the broker has forgotten what the key was given.
        """
        request, asked_at_s = self._asked[dispatch]
        if time.monotonic() - asked_at_s > _KEY_KNOWN_S:
            raise Unreachable("the dispatch is too old for its addresses to be signed anew", is_lasting=True)
        answer = await self.dispatch(msgspec.structs.replace(request, wait_ms=0))
        if answer is None or answer.dispatch != dispatch:
            raise Unreachable("the broker no longer knows the dispatch by its key", is_lasting=True)
        return answer

    async def extend(
        self, dispatch: str, extend: DispatchExtend, *, patience: Patience | None = None
    ) -> DispatchExtended:
        """Show that the launcher is there, and learn what to do with the vm."""
        return await self._session.call(
            "POST",
            f"/v1/dispatches/{dispatch}/extend",
            body=extend,
            answer=DispatchExtended,
            patience=patience,
        )

    async def report(self, dispatch: str, event: VmEvent, *, patience: Patience | None = None) -> DispatchExtended:
        """Report a phase of the vm, and learn what to do with it."""
        return await self._session.call(
            "POST", f"/v1/dispatches/{dispatch}/events", body=event, answer=DispatchExtended, patience=patience
        )

    async def tell(self, name: str, report: LauncherReport, *, patience: Patience | None = None) -> LauncherTold:
        """Report the launcher itself, by its own name; learn when to do so again and whether to go on."""
        return await self._session.call(
            "PUT", f"/v1/launchers/{name}", body=report, answer=LauncherTold, patience=patience
        )

    async def leave(self, name: str, *, patience: Patience | None = None) -> None:
        """Say that the launcher ends, after the last of its vms did. It counts as gone at once; idempotent."""
        await self._session.send("DELETE", f"/v1/launchers/{name}", patience=patience)

    async def end(self, dispatch: str, end: EndVm, *, patience: Patience | None = None) -> VmEnded:
        """Report the verdict. Idempotent: the answer names the verdict that stands."""
        self._asked.pop(dispatch, None)
        return await self._session.call(
            "POST", f"/v1/dispatches/{dispatch}/end", body=end, answer=VmEnded, patience=patience
        )

    async def demand(self, *, patience: Patience | None = None) -> DemandPage:
        """Return what is ready for launchers of this token."""
        return await self._session.call("GET", "/v1/demand", answer=DemandPage, patience=patience)

    async def tell_jobs(self, name: str, report: JobsReport, *, patience: Patience | None = None) -> None:
        """Tell what became of the launcher jobs of a submitter, by its own name; kept for a day."""
        body = msgspec.json.encode(report)
        await self._session.send("PUT", f"/v1/launcher-jobs/{name}", body=body, patience=patience)

    async def forget_jobs(self, name: str, *, patience: Patience | None = None) -> None:
        """Say that a submitter has no jobs any more; idempotent."""
        await self._session.send("DELETE", f"/v1/launcher-jobs/{name}", patience=patience)
