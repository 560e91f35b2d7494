"""The launcher's calls: offer room, then tell what becomes of the vm."""

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

_BEYOND_WAIT_S = 15.0
"""How much longer than the wait itself an answer to an offer may take."""


class DispatchClient:
    """One method for each route; each is safe to repeat, and repeated as far as the `patience` goes.

    Every method raises `ApiError` when the broker refuses and `Unreachable` when no answer came.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    async def dispatch(self, request: DispatchRequest) -> DispatchAnswer | None:
        """Offer room and wait for an item; None when nothing came. A repeated `dispatch_key` gets the same item."""
        timeout_s = request.wait_ms / 1000 + _BEYOND_WAIT_S
        reply = await self._session.send("POST", "/v1/dispatch", body=msgspec.json.encode(request), timeout_s=timeout_s)
        if reply.status == HTTPStatus.NO_CONTENT:
            return None
        try:
            return msgspec.json.decode(reply.body, type=DispatchAnswer)
        except msgspec.DecodeError as error:
            raise Unreachable(f"{self._session.base_url} answers an offer with what no broker says: {error}") from error

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

    async def end(self, dispatch: str, end: EndVm, *, patience: Patience | None = None) -> VmEnded:
        """Report the verdict. Idempotent: the answer names the verdict that stands."""
        return await self._session.call(
            "POST", f"/v1/dispatches/{dispatch}/end", body=end, answer=VmEnded, patience=patience
        )
