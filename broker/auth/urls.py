"""Signed addresses: one object, one method, for a quarter of an hour, or as long as a user shares a file.

The MAC is over the method, the decoded path and the end of its life. Whoever holds the address holds that right, which
is why it is that small. What is signed is the path alone, so the same broker may be reached under several names.
"""

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from urllib.parse import quote

from broker.auth.keys import MacKeys
from broker.domain.errors import Rejected
from broker.wire.problems import ProblemCode

LIFE = timedelta(minutes=15)
_EXPIRES, _METHOD, _KEY, _SIGNATURE = "expires", "method", "key", "signature"
SIGNED = frozenset({_EXPIRES, _METHOD, _KEY, _SIGNATURE})
"""What a signed address has in its query."""


class SignedUrls:
    """Makes and checks signed addresses below one public address of the broker."""

    def __init__(
        self,
        keys: MacKeys,
        public_url: str,
        now_s: Callable[[], int] = lambda: int(time.time()),
        life: timedelta = LIFE,
    ) -> None:
        self._keys = keys
        self.public_url = public_url
        self._now_s = now_s
        self._life_s = int(life.total_seconds())

    def plain(self, path: str) -> str:
        """Return the address of a (decoded) path, unsigned."""
        return f"{self.public_url}{quote(path, safe='/:')}"

    def sign(self, method: str, path: str, life: timedelta | None = None) -> str:
        """Return the address of a (decoded) path with the right to do `method` on it, for so long."""
        expires = str(self._now_s() + (self._life_s if life is None else int(life.total_seconds())))
        mac = self._keys.make("url", method, path, expires)
        return (
            f"{self.plain(path)}?{_METHOD}={method}&{_EXPIRES}={expires}&{_KEY}={self._keys.current}&{_SIGNATURE}={mac}"
        )

    def sign_like(self, path: str, query: Mapping[str, str]) -> str:
        """Return the address of another path, for the method and as long as a signed address that was checked."""
        left = timedelta(seconds=int(query[_EXPIRES]) - self._now_s())
        return self.sign(query[_METHOD], path, left)

    @staticmethod
    def is_signed(query: Mapping[str, str]) -> bool:
        return _SIGNATURE in query

    def check(self, method: str, path: str, query: Mapping[str, str]) -> None:
        """Check the signature that came with a request for `path`.

        Raises:
            Rejected: `forbidden`: it is for something else, changed, or over.
        """
        expires = query.get(_EXPIRES, "")
        key_id, mac = query.get(_KEY, ""), query.get(_SIGNATURE, "")
        if query.get(_METHOD) != method or not self._keys.verify(key_id, mac, "url", method, path, expires):
            raise Rejected(ProblemCode.FORBIDDEN, f"the signed address does not allow {method} here: ask for a new one")
        if int(expires) <= self._now_s():
            raise Rejected(ProblemCode.FORBIDDEN, "the signed address is over: ask for a new one")
