from collections import Counter

from broker.client.events import SseParser
from broker.domain.scopes import Authority
from broker.http.doors import Proof
from broker.http.events import _sse
from broker.http.routes import ROUTES
from broker.wire.events import Event


def test_every_address_has_a_proof_but_those_that_say_nothing_of_anybody() -> None:
    without = {route.path for route in ROUTES if route.proof is Proof.NOTHING}

    assert without == {
        *("/healthz", "/readyz", "/guest/install", "/openapi.json", "/v1/login"),
        *(f"/.well-known/{name}" for name in ("openid-configuration", "oauth-authorization-server", "jwks.json")),
    }
    assert max(Counter((route.method, route.path) for route in ROUTES).values()) == 1


def test_whatever_changes_something_asks_for_a_right_over_it() -> None:
    reading = {Authority.READ, Authority.FILE_READ}
    for route in ROUTES:
        if route.path == "/v1/tokens/{token}":
            continue  # whose it is, the token's record says, and its handler asks for the right over that
        if route.proof in {Proof.TOKEN, Proof.TOKEN_OR_SIGNATURE} and route.method not in {"GET", "HEAD"}:
            assert route.authority is not None, route
            # To share hands the right to read on; to share a file for writing asks for that right, too.
            assert route.authority not in reading or route.path.startswith("/v1/shares/"), route
            assert route.over or route.authority in {Authority.DISPATCH, Authority.ADMIN}, route


def test_the_client_reads_what_the_server_writes_however_it_is_cut() -> None:
    events = [
        Event(id=f"7-{number}", source="/streams/a/b", type="org.vmbroker.item.ready", time="t", sequence=f"{number}")
        for number in (1, 2)
    ]
    wire = b"retry: 2000\n:\n\n" + b"".join(map(_sse, events)) + b":\n\nevent: truncated\ndata: {}\n\n"
    for size in (1, 7, len(wire)):
        parser = SseParser()
        messages = [message for at in range(0, len(wire), size) for message in parser.feed(wire[at : at + size])]
        assert [(message.kind, message.id) for message in messages] == [
            ("message", "7-1"),
            ("message", "7-2"),
            ("truncated", "7-2"),
        ]
