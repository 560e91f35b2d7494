"""Whether the broker is still trusted by who connects to it anew, as a guest does.

A launcher's own connections outlive a change of the broker's certificate, so that it may go on where a guest cannot.
"""

from typing import Final

from broker.client.errors import Untrusted
from broker.client.session import ONCE, CallError, Session
from launcher.node.node import Node

_LIMIT_S: Final = 10.0


async def why_untrusted(node: Node) -> str | None:
    """Say why the broker's certificate is not accepted with what guests are given; None when it is, or nobody answers.

    A broker without TLS, on this node alone, has none.
    """
    if not node.broker.startswith("https:"):
        return None
    async with Session(node.broker, ca_pem=node.ca_pem) as session:
        try:
            await session.send("GET", "/healthz", timeout_s=_LIMIT_S, patience=ONCE)
        except Untrusted as error:
            return str(error)
        except CallError:
            return None
    return None
