"""The guest's calls: claim an item with a ticket, then act on it with the lease token."""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from broker.client.session import Patience, Session
from broker.wire.leases import (
    ClaimAnswer,
    ClaimRequest,
    CompleteRequest,
    FailRequest,
    LeaseExtend,
    LeaseExtended,
    Settled,
    UploadFacts,
    UrlsAnswer,
    UrlsRequest,
)

T = TypeVar("T")

COMPLETE_S = 60.0
"""For the answer to a result: the broker may look at every output in its bucket first, which it does for 30 s."""


class LeaseClient:
    """One method for each route; all are repeated as far as the `patience` goes (by default the session's).

    Every method raises `ApiError` when the broker refuses (`lease_lost`, `ticket_spent`, `ticket_replayed`,
    `result_differs`: stop working) and `Unreachable` when no answer came.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    async def claim(self, request: ClaimRequest, *, patience: Patience | None = None) -> ClaimAnswer:
        """Exchange the ticket for the item. The same ticket and claim key get the same item and lease again."""
        return await self._session.call("POST", "/v1/claim", body=request, answer=ClaimAnswer, patience=patience)

    async def extend(
        self, lease: str, *, progress: str = "", timeout_s: float = 30.0, patience: Patience | None = None
    ) -> LeaseExtended:
        """Push the lease's deadline back and learn what to do next."""
        return await self._session.call(
            "POST",
            "/v1/lease/extend",
            body=LeaseExtend(progress=progress),
            answer=LeaseExtended,
            timeout_s=timeout_s,
            token=lease,
            patience=patience,
        )

    async def urls(
        self,
        lease: str,
        outputs: list[str] | None = None,
        secrets: Mapping[str, int] | None = None,
        *,
        uploads: Mapping[str, UploadFacts] | None = None,
        patience: Patience | None = None,
    ) -> UrlsAnswer:
        """Ask for fresh signed addresses of the inputs and of the named outputs, and for secrets that changed.

        `secrets` are those that the guest has, with their versions; `uploads` what is known of the outputs.
        """
        request = UrlsRequest(outputs=outputs or [], uploads=dict(uploads or {}), secrets=dict(secrets or {}))
        return await self._post(lease, "urls", request, UrlsAnswer, patience)

    async def complete(self, lease: str, request: CompleteRequest, *, patience: Patience | None = None) -> Settled:
        """Deliver the result. Idempotent for the same outputs."""
        return await self._post(lease, "complete", request, Settled, patience, timeout_s=COMPLETE_S)

    async def fail(self, lease: str, request: FailRequest, *, patience: Patience | None = None) -> Settled:
        """Say that this attempt failed, or give the item back (exit code 75). Idempotent."""
        return await self._post(lease, "fail", request, Settled, patience)

    async def _post(
        self,
        lease: str,
        act: str,
        body: msgspec.Struct,
        answer: type[T],
        patience: Patience | None,
        *,
        timeout_s: float = 30.0,
    ) -> T:
        return await self._session.call(
            "POST", f"/v1/lease/{act}", body=body, answer=answer, token=lease, patience=patience, timeout_s=timeout_s
        )
