"""The keys of the trusted issuers, kept as long as they are good.

They are fresh for an hour. An issuer that is away then is asked again each minute, and its old keys go on for a day, so
that its trouble is not ours at once. A token that names a key we do not have makes us ask at once, but each issuer at
most once a minute: nobody makes us call an issuer by inventing keys. Only issuers that the operator named are asked.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog
from joserfc.jwk import KeySet

from broker.client.outgoing import OutgoingClient
from broker.domain.errors import Rejected, Unavailable
from broker.outside.discovery import NotDiscovered, fetch_keys
from broker.wire.problems import ProblemCode

FRESH_S: Final = 3_600.0
KEPT_S: Final = 86_400.0
ASK_AGAIN_S: Final = 60.0
"""Between two requests to one issuer whose keys we have."""
RETRY_S: Final = 10.0
"""Between two requests to one whose keys we do not have: whoever waits for them is told to come back then."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Kept:
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    keys: KeySet | None = None
    got_at_s: float = -math.inf
    asked_at_s: float = -math.inf


class IssuerKeys:
    """Keys by issuer, got when they are wanted; one request at a time goes to each issuer.

    Args:
        issuers: Who may be asked.
        client: How they are reached.
        clock: Seconds, growing.
    """

    def __init__(
        self, issuers: Iterable[str], client: OutgoingClient, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kept = {issuer: _Kept() for issuer in issuers}
        self._client = client
        self._clock = clock

    async def keys(self, issuer: str, kid: str | None) -> KeySet:
        """Return an issuer's keys, with `kid` among them if the issuer has it and was not asked a moment ago.

        Raises:
            Rejected: `unauthenticated`: it is none of the trusted issuers; it was not asked.
            Unavailable: `issuer_unavailable`: its keys cannot be had now.
        """
        kept = self._kept.get(issuer)
        if kept is None:
            raise unknown_issuer()
        if self._must_ask(kept, kid):
            async with kept.asking:
                if self._must_ask(kept, kid):  # not, when whoever had the lock before asked for us, too
                    await self._ask(issuer, kept)
        if kept.keys is None or self._age_s(kept) >= KEPT_S:
            raise _unavailable(issuer)
        return kept.keys

    def _must_ask(self, kept: _Kept, kid: str | None) -> bool:
        has_none = kept.keys is None or self._age_s(kept) >= KEPT_S
        if self._clock() - kept.asked_at_s < (RETRY_S if has_none else ASK_AGAIN_S):
            return False
        return has_none or self._age_s(kept) >= FRESH_S or not _has(kept.keys, kid)

    def _age_s(self, kept: _Kept) -> float:
        return self._clock() - kept.got_at_s

    async def _ask(self, issuer: str, kept: _Kept) -> None:
        try:
            kept.keys = await fetch_keys(self._client, issuer)
        except NotDiscovered as error:
            log.warning("issuer_keys_not_got", issuer=issuer, reason=str(error))
        else:
            log.info("issuer_keys_got", issuer=issuer, keys=len(kept.keys.keys))
            kept.got_at_s = self._clock()
        kept.asked_at_s = self._clock()


def unknown_issuer() -> Rejected:
    """Return the refusal of a token that is of no issuer we trust."""
    return Rejected(
        ProblemCode.UNAUTHENTICATED,
        "the token is not accepted: its issuer is none that this broker trusts; get a token of the broker's own by "
        "`broker login`, or ask its operator to trust the issuer",
    )


def _has(keys: KeySet | None, kid: str | None) -> bool:
    return kid is None or (keys is not None and any(key.kid == kid for key in keys.keys))


def _unavailable(issuer: str) -> Unavailable:
    # Why is in the log, for the operator: it may name what whoever holds any token need not know of.
    return Unavailable(
        ProblemCode.ISSUER_UNAVAILABLE,
        f"the keys of {issuer} cannot be had now, so its tokens cannot be checked: try again in a moment, or tell the "
        "broker's operator",
        retry_after_s=int(RETRY_S),
    )
