"""What one vm may do through the proxy, and what it did."""

import hmac
import secrets
from collections import deque
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from broker.client.origins import Origin
from launcher.exchange.errors import Refused
from launcher.exchange.reach import Reach

REMEMBERED_REFUSALS: Final = 32
# QEMU's user-mode network shows a guest the node's 127.0.0.1, here the guests' empty network's, as this address.
_NO_WAY: Final = frozenset({502, 504})
GUEST_VIEW_OF_PROXY: Final = "10.0.2.2"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was not let through, or led nowhere.

    Attributes:
        origin: Where the guest wanted to go.
        status: What it was answered: 403 for what it may not do, 502 to 504 for what did not work.
        reason: A sentence for people, naming the origin.
    """

    origin: Origin
    status: int
    reason: str


class Grant:
    """One vm's right to use the proxy.

    Attributes:
        vm: The vm's name, and its user name at the proxy.
        bytes_in: Sent to the guest, heads included.
        bytes_out: Sent by the guest, heads included.
        refusals: The latest, oldest first.
    """

    def __init__(self, vm: str, origins: frozenset[Origin]) -> None:
        self.vm = vm
        self.bytes_in = 0
        self.bytes_out = 0
        self.refusals: deque[Refusal] = deque(maxlen=REMEMBERED_REFUSALS)
        self._password = secrets.token_urlsafe(24)
        self._origins = set(origins)
        self._reaches: dict[Origin, Reach] = {}

    def proxy_url(self, port: int) -> str:
        """Return the proxy's URL as this vm's guest sees it, credentials included: a secret."""
        return f"http://{quote(self.vm, safe='')}:{self._password}@{GUEST_VIEW_OF_PROXY}:{port}"

    def allow(self, origin: Origin) -> None:
        """Let the vm reach one more origin, from its next request on."""
        self._origins.add(origin)

    def allows(self, origin: Origin) -> bool:
        return origin in self._origins

    def reach(self, origin: Origin) -> Reach:
        """Return what came of this vm's own tries to reach an origin."""
        return self._reaches.setdefault(origin, Reach())

    def count_in(self, size_bytes: int) -> None:
        self.bytes_in += size_bytes

    def count_out(self, size_bytes: int) -> None:
        self.bytes_out += size_bytes

    def is_password(self, password: str) -> bool:
        return hmac.compare_digest(password.encode(), self._password.encode())

    def refuse(self, origin: Origin, refused: Refused) -> None:
        self.refusals.append(Refusal(origin, refused.status, str(refused)))
        if refused.status in _NO_WAY and self.allows(origin):
            self.reach(origin).failed()
